"""Write simulated node files.

python -m tests.simulator --seed 7 --out DIR      every format, all stories
python -m tests.simulator recording OUT_DIR       the recording that the package carries
"""

import argparse
from pathlib import Path

from tests.simulator import (
    RECORDING,
    simulate,
    small,
    write_by_block,
    write_fills,
    write_misc,
    write_recording,
    write_streaming,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", choices=("all", "recording"), default="all")
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--compress", action="store_true")
    options = parser.parse_args()
    directory = options.out or options.directory
    if directory is None:
        parser.error("where to? give a directory")
    if options.what == "recording":
        written = write_recording(simulate(RECORDING), directory)
    else:
        sim = simulate(small(options.seed))
        written = [
            path
            for write in (write_by_block, write_fills, write_streaming, write_misc)
            for path in write(sim, directory, options.compress)
        ]
    for path in written:
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
