"""Runs and ensembles by name, ready to predict."""

from __future__ import annotations

from collections.abc import Sequence

from compkit.ensemble.build import ENSEMBLE, read_ensemble
from compkit.ensemble.decoder import Decoder
from compkit.ensemble.members import members_of
from compkit.ensemble.mixture import Mixture
from compkit.ensemble.tuned import tune_decoder, tuned_decoder
from compkit.errors import CompkitError
from compkit.root import runs_root
from compkit.run import open_run


def open_mixture(
    names: Sequence[str], data: str | None = None, encoder: str | None = None
) -> tuple[Mixture, Decoder]:
    """Return what one ensemble or some runs predict, and its decoder: its own, or one made for it.

    Parameters
    ----------
    names : sequence of str
        One ensemble of `compkit ensemble`; or runs on the same data.
    data : str, optional
        Where the data lie now, if not where the runs were trained.
    encoder : str, optional
        Take the members of this encoder alone.

    Raises
    ------
    CompkitError
        If one is absent or unfinished, or members do not fit together.
    """
    if len(names) == 1 and (runs_root() / names[0] / ENSEMBLE).is_file():
        if encoder is not None:
            raise CompkitError(f"{names[0]} is an ensemble of chosen members: leave out --encoder")
        mixture = read_ensemble(names[0], data)
    else:
        mixture = Mixture(members_of([open_run(name, data) for name in names], encoder))
        if len(names) > 1:
            return mixture, tune_decoder(mixture)
    if encoder is not None and len(mixture.members[0].run.config.encoders) > 1:
        return mixture, tuned_decoder(mixture, runs_root() / names[0] / encoder / "decoder.json")
    return mixture, tuned_decoder(mixture, runs_root() / names[0] / "decoder.json", must_exist=True)
