"""Convert a published Sopro checkpoint, a Mimi checkpoint and a tokenizer into one file for sopro_np.

    python tools/convert_weights.py --sopro model.safetensors --mimi mimi/ --tokenizer tokenizer/ \
        --recipe int8 -o sopro-int8.safetensors

The same as `sopro-np convert`. Any subset of the three parts will do; `sopro-np info FILE` shows what was converted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sopro_np.cli.convert import add_arguments, run
from sopro_np.errors import SoproError


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        return run(args)
    except SoproError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error.filename or args.output}: {error.strerror}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
