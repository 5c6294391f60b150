"""Public CT volumes: however a volume is stored it reads the same, and what is no CT is refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from nibabel import orientations
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLSLossless, generate_uid

from compkit.errors import CompkitError
from compkit.volumes.cases import find_cases, read_case

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "ct-volumes"
SPACING = (3.0, 2.0, 1.5)
AFFINE = np.diag([-1.5, -2.0, 3.0, 1.0])  # of voxels (x, y, z): LPS+
GREY = np.random.default_rng(0).integers(-1000, 1500, (4, 5, 6)).astype(np.int16)
GREY[0, 0, 0] = -1000
SMALL, LARGE = np.zeros_like(GREY, np.uint8), np.zeros_like(GREY, np.uint8)
LARGE[1:3, 1:4, 1:5], SMALL[1, 1:3, 4:6] = 1, 1


def save(path: Path, voxels: np.ndarray, axes: str = "LPS", affine: np.ndarray = AFFINE) -> None:
    turn = orientations.ornt_transform(
        orientations.axcodes2ornt("LPS"), orientations.axcodes2ornt(axes)
    )
    stored = voxels.transpose(2, 1, 0)
    turned = affine @ orientations.inv_ornt_aff(turn, stored.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(orientations.apply_orientation(stored, turn), turned), path)


def save_dicom(folder: Path) -> list[Path]:
    """Write slices under names that are not in their order."""
    folder.mkdir(parents=True)
    series, files = generate_uid(), []
    for z, name in enumerate(("c", "a.dcm", "d.dcm", "b")):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, generate_uid()
        data.SeriesInstanceUID, data.Modality = series, "CT"
        data.ImagePositionPatient, data.PixelSpacing = [0, 0, 3.0 * z], [2.0, 1.5]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.Rows, data.Columns = GREY.shape[1:]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 0
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        data.PixelData = (GREY[z] + 1024).astype(np.uint16).tobytes()
        files.append(folder / name)
        data.save_as(files[-1], enforce_file_format=True)
    return files


def rewrite(file: Path, **values: object) -> None:
    data = pydicom.dcmread(file)
    for key, value in values.items():
        setattr(data, key, value)
    data.save_as(file)


def read(folder: Path):
    return read_case(find_cases(folder)[0])


AXES = [
    "".join(pair[flip] for pair, flip in zip(order, flips, strict=True))
    for order in itertools.permutations(("LR", "PA", "SI"))
    for flips in itertools.product((0, 1), repeat=3)
]


@pytest.mark.parametrize("axes", AXES)
def test_a_volume_reads_the_same_however_its_axes_are_stored(axes, tmp_path):
    save(tmp_path / "a" / "ct.nii.gz", GREY, axes)
    save(tmp_path / "a" / "segmentations" / "large.nii.gz", LARGE, axes[::-1])
    save(tmp_path / "a" / "segmentations" / "small.nii.gz", SMALL)
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.grey, GREY)
    np.testing.assert_allclose(volume.spacing, SPACING)
    assert volume.organs == ("large", "small")
    np.testing.assert_array_equal(volume.labels, np.where(SMALL, 2, LARGE))
    assert volume.overlapping == np.count_nonzero(SMALL & LARGE)


@pytest.mark.parametrize("place", ["a", "a/ct"])
def test_dicom_in_any_order_of_files_reads_as_nifti(place, tmp_path):
    save_dicom(tmp_path / place)
    save(tmp_path / "a" / "segmentations" / "large.nii.gz", LARGE)
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.grey, GREY)
    np.testing.assert_allclose(volume.spacing, SPACING)
    np.testing.assert_array_equal(volume.labels, LARGE)


@pytest.mark.parametrize("names", [{"background": 0, "x": 1, "y": 2}, {"1": "x", "2": "y"}, None])
def test_labels_in_one_file_are_named_by_json_of_either_direction(names, tmp_path):
    save(tmp_path / "imagesTr" / "p_0000.nii.gz", GREY)
    save(tmp_path / "labelsTr" / "p.nii.gz", LARGE + SMALL)
    if names:
        (tmp_path / "dataset.json").write_text(json.dumps({"labels": names}))
    volume = read(tmp_path)
    assert volume.organs == (("x", "y") if names else ("label 1", "label 2"))
    np.testing.assert_array_equal(volume.labels, LARGE + SMALL)


def test_merged_organs_do_not_overlap_and_dropped_ones_are_gone(tmp_path):
    save(tmp_path / "a" / "ct.nii.gz", GREY)
    for name, mask in {"large": LARGE, "small": SMALL, "body": LARGE * 0 + 1}.items():
        save(tmp_path / "a" / "segmentations" / f"{name}.nii.gz", mask)
    volume = read_case(find_cases(tmp_path)[0], lambda name: None if name == "body" else "one")
    assert (volume.organs, volume.overlapping) == (("one",), 0)
    np.testing.assert_array_equal(volume.labels, LARGE | SMALL)


def test_cases_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("p10", "p2", "p1"):
        save(tmp_path / name / "ct.nii", GREY)
    assert [case.name for case in find_cases(tmp_path)] == ["p1", "p2", "p10"]
    assert read(tmp_path).organs == ()
    with pytest.raises(CompkitError, match="no CT volumes"):
        find_cases(tmp_path / "p1")


def no_affine(path):
    image = nibabel.Nifti1Image(GREY, None)
    nibabel.save(image, path)


BAD = {
    "neither sform nor qform": no_affine,
    "no Hounsfield": lambda path: save(path, (GREY % 256).astype(np.int16)),
    "is empty": lambda path: save(path, GREY * 0 - 1000),
    "NaN": lambda path: save(path, np.where(GREY > 1000, np.nan, GREY).astype(np.float32)),
    "three axes": lambda path: nibabel.save(nibabel.Nifti1Image(GREY[..., None], AFFINE), path),
    "voxels of": lambda path: save(path, GREY, affine=np.diag([1, 1, 500.0, 1])),
    "cannot be read": lambda path: path.write_bytes(path.read_bytes()[:-60]),
    "cannot be read as": lambda path: path.write_bytes(b"nothing" * 99),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_nifti_is_refused_by_name(fault, tmp_path):
    path = tmp_path / "a" / "ct.nii.gz"
    save(path, GREY)
    BAD[fault](path)
    with pytest.raises(CompkitError, match=fault) as error:
        read(tmp_path)
    assert str(path) in str(error.value)


BAD_MASKS = {
    "another grid": lambda path: save(path, LARGE[1:]),
    "or another affine": lambda path: save(path, LARGE, affine=AFFINE + np.eye(4, k=3)),
    "whole numbers": lambda path: save(path, (LARGE * 0.5).astype(np.float32)),
    "several labels": lambda path: save(path, LARGE + SMALL),
}


@pytest.mark.parametrize("fault", BAD_MASKS)
def test_a_bad_mask_is_refused_by_name(fault, tmp_path):
    save(tmp_path / "a" / "ct.nii.gz", GREY)
    path = tmp_path / "a" / "segmentations" / "liver.nii.gz"
    path.parent.mkdir()
    BAD_MASKS[fault](path)
    with pytest.raises(CompkitError, match=fault) as error:
        read(tmp_path)
    assert str(path) in str(error.value)


def compress(file: Path) -> None:
    data = pydicom.dcmread(file)
    data.PixelData = pydicom.encaps.encapsulate([data.PixelData])
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = JPEGLSLossless
    data.save_as(file)


BAD_DICOM = {
    "more than one series": lambda files: rewrite(files[1], SeriesInstanceUID=generate_uid()),
    "modality MR": lambda files: rewrite(files[1], Modality="MR"),
    "lacks RescaleSlope": lambda files: rewrite(files[1], RescaleSlope=None),
    "lacks PixelSpacing": lambda files: rewrite(files[1], PixelSpacing=2.0),
    "missing or is there twice": lambda files: files[1].unlink(),
    "orientation": lambda files: rewrite(files[1], ImageOrientationPatient=[0, 1, 0, 1, 0, 0]),
    "has several frames, colours": lambda files: rewrite(files[1], SamplesPerPixel=3),
    "or no HU": lambda files: rewrite(files[1], RescaleType="OD"),
    "another size": lambda files: rewrite(files[1], Rows=3),
    "pixels cannot be read": lambda files: compress(files[1]),
    "cannot be read": lambda files: files[1].write_bytes(files[1].read_bytes()[:90]),
    "one DICOM slice": lambda files: [file.unlink() for file in files[1:]],
    "tilted": lambda files: [
        rewrite(file, ImagePositionPatient=[0, z, 3.0 * z]) for z, file in enumerate(files)
    ],
}


@pytest.mark.parametrize("fault", BAD_DICOM)
def test_a_bad_series_is_refused_by_name(fault, tmp_path):
    BAD_DICOM[fault](save_dicom(tmp_path / "a"))
    with pytest.raises(CompkitError, match=fault) as error:
        read(tmp_path)
    assert str(tmp_path / "a") in str(error.value)


@pytest.mark.skipif(not REAL.is_dir(), reason="shared/data/ct-volumes is not beside the repository")
def test_real_patients_stand_upright():
    for case in find_cases(REAL):
        volume = read_case(case)
        at = {
            name: np.argwhere(volume.labels == number).mean(0)
            for number, name in enumerate(volume.organs, start=1)
        }
        assert at["parotid_left"][2] > at["parotid_right"][2]
        assert at["mandible"][1] < at["spinal_cord"][1]
        assert at["brainstem"][0] > at["spinal_cord"][0]


def test_headers_damaged_anywhere_are_one_sentence(tmp_path):
    case = tmp_path / "case"
    case.mkdir()
    image = nibabel.Nifti1Image(np.full((4, 5, 6), -1000, np.int16), np.diag([1.0, 1, 1, 1]))
    nibabel.save(image, case / "ct.nii")
    whole = (case / "ct.nii").read_bytes()
    refused = 0
    for place in range(0, 348, 2):
        damaged = bytearray(whole)
        damaged[place : place + 2] = b"\xff\x7f"
        (case / "ct.nii").write_bytes(damaged)
        try:
            read_case(find_cases(tmp_path)[0])
        except CompkitError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("bad", [b"\xff\x7f", b"\x00\x00", b"\xff\xff", b"AS"])
def test_a_series_damaged_anywhere_is_one_sentence(bad, tmp_path):
    file = save_dicom(tmp_path / "case")[0]
    whole = file.read_bytes()
    refused = 0
    for place in range(128, len(whole) - GREY[0].nbytes, 3):
        file.write_bytes(whole[:place] + bad + whole[place + 2 :])
        try:
            read(tmp_path)
        except CompkitError:
            refused += 1
    assert refused > 20


def test_an_oblique_volume_is_taken_along_the_closest_axes(tmp_path):
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    for axes in ("LPS", "RAS", "SPL"):
        save(tmp_path / axes / "ct.nii.gz", GREY, axes, turn @ AFFINE)
    for case in find_cases(tmp_path):
        volume = read_case(case)
        np.testing.assert_array_equal(volume.grey, GREY)
        assert volume.spacing == pytest.approx(SPACING)
