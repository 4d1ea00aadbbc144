# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action ``artifact``: files of a run, on the control node, without a module process."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


def write(path: Path, content: Any, mode: int) -> None:
    """Write ``content`` (a string as it is, anything else as JSON) whole or not at all. Raises OSError."""
    text = content if isinstance(content, str) else json.dumps(content, indent=2, sort_keys=True) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


class ActionModule(ActionBase):  # type: ignore[misc]
    """Thin entry: options in, one file out."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _unused, options = self.validate_argument_spec(
            argument_spec={
                "path": {"type": "path", "required": True},
                "content": {"type": "raw"},
                "mode": {"type": "str", "default": "0644"},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            },
            required_if=[("state", "present", ["content"])],
        )
        path = Path(options["path"])
        if not self._task.check_mode:
            try:
                if options["state"] == "absent":
                    path.unlink(missing_ok=True)
                else:
                    write(path, options["content"], int(options["mode"], 8))
            except (OSError, ValueError, TypeError) as error:
                raise AnsibleActionFail(
                    f"ARTIFACT_NOT_WRITTEN: {path} could not be written.\nWhy: {error}\n"
                    "What now: set llmd_artifacts_dir to a folder that you may write."
                ) from error
        return {"changed": False, "path": str(path)}
