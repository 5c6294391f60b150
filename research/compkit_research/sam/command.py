"""The command ``compkit sam``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from compkit.entry import add_out


def sam(parser: ArgumentParser) -> None:
    """Add the arguments of ``compkit sam``, and what is called with them."""
    parser.description = "Write the masks of Segment Anything, without prompts, as a submission."
    parser.add_argument("--data", required=True, help="a competition's data")
    parser.add_argument(
        "--weights",
        required=True,
        help="a folder with config.json, preprocessor_config.json and safetensors, or a hub's name "
        "such as facebook/sam-vit-base",
    )
    add_out(parser, "the CSV to write")
    parser.set_defaults(command=_run)


def _run(a: Namespace) -> None:
    from compkit_research.sam.submission import submit_sam

    submit_sam(a.data, a.weights, a.out, a.overwrite)
