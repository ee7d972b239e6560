"""``python -m dataflow``."""

from dataflow.cli import main

raise SystemExit(main())
