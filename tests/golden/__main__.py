"""Write the golden results anew: `python -m tests.golden`; read the difference, then commit."""

import asyncio
import json

from tests.golden import golden

for name, result in asyncio.run(golden.results()).items():
    golden.path(name).write_text(json.dumps(result, indent=1) + "\n")
if golden.DETECTOR.is_dir():
    golden.path("detector").write_text(json.dumps(golden.faces(), indent=1) + "\n")
