"""Models that answer without thinking and without tools, whatever their chat template."""

from __future__ import annotations

from stillhouse.text.families.base import ModelFamily

PLAIN = ModelFamily("plain")
