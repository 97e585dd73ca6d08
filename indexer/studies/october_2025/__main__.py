"""python -m indexer.studies.october_2025 FOLDER > docs/october-2025.md"""

import argparse
import sys
from pathlib import Path

from indexer.errors import ConfigError
from indexer.studies.october_2025.page import page
from indexer.studies.october_2025.published import read
from indexer.studies.october_2025.study import study

parser = argparse.ArgumentParser(
    prog="python -m indexer.studies.october_2025",
    description="Print the study of the published October 2025 numbers as Markdown.",
)
parser.add_argument("folder", type=Path, help="where the oct10_* files are")
try:
    print(page(study(read(parser.parse_args().folder))), end="")
except ConfigError as error:
    sys.exit(f"error: {error}")
