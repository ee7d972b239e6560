"""Explaining a plan: as text, as a diagram, as JSON, as a picture."""

from __future__ import annotations

from dataflow.explain.text import to_text
