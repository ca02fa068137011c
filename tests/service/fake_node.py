"""`isthmus serve` with the small runner of the tests in its workers."""

import json
import sys
from pathlib import Path

from isthmus.cli.ending import end_with_input
from isthmus.service.serve import serve
from isthmus.store.folder import NodeFolder

if __name__ == "__main__":
    home = Path(sys.argv[sys.argv.index("--home") + 1])
    worker = Path(__file__).parents[1] / "jobs" / "fake_worker.py"
    end_with_input()
    serve(
        NodeFolder(home),
        lambda node, port: print(json.dumps({"port": port}), flush=True),
        (sys.executable, str(worker)),
    )
