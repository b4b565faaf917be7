"""Print the requirements of pyproject.toml; with --dev, what development needs as well."""

import sys
import tomllib
from pathlib import Path

pyproject = tomllib.loads(Path("pyproject.toml").read_text())
wanted = list(pyproject["project"]["dependencies"])
if "--dev" in sys.argv[1:]:
    wanted += pyproject["dependency-groups"]["dev"]
print("\n".join(wanted))
