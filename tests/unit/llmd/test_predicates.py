"""Small judgements about helm, charts and files."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from ansible_collections.llmd.gke.plugins.module_utils.llmd import health_check
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helm import Completed
from ansible_collections.llmd.gke.plugins.module_utils.llmd.helmfile import has_helm_diff, write_if_changed
from ansible_collections.llmd.gke.plugins.module_utils.llmd.releases import Release, chart_matches


@pytest.mark.parametrize(
    ("rc", "listed", "there"),
    [
        (0, "NAME\tVERSION\ndiff\t3.10.0\n", True),
        (0, "NAME\tVERSION\nsecrets\t4.6.0\n", False),
        (0, "NAME\tVERSION\n", False),
        (1, "diff\t3.10.0\n", False),
        (1, "", False),
    ],
)
def test_the_diff_plugin_is_there_when_helm_lists_it(rc: int, listed: str, there: bool) -> None:
    asked: list[Sequence[str]] = []

    def runner(argv: Sequence[str], environment: Mapping[str, str], timeout: float) -> Completed:
        asked.append(argv)
        return Completed(rc, listed)

    assert has_helm_diff("helm", runner, {}) is there
    assert asked == [["helm", "plugin", "list"]]


@pytest.mark.parametrize(
    ("chart", "version", "installed", "same"),
    [
        ("infra", "v1.3.6", "infra-v1.3.6", True),
        ("infra", "v1.3.6", "infra-v1.3.5", False),
        ("/charts/infra-v1.3.6.tgz", "", "infra-v1.3.6", True),
        ("/charts/infra-v1.3.6.tgz", "", "infra-v1.3.5", False),
        ("/charts/infra-v1.3.6.tar", "", "infra-v1.3.6", False),
    ],
)
def test_a_chart_is_the_wanted_one_by_name_and_version_or_by_its_file(
    chart: str, version: str, installed: str, same: bool
) -> None:
    assert chart_matches(Release("x", chart, version, "llm-d"), installed) is same


def test_a_file_is_written_once_with_the_folders_that_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "deep/er/values.yaml"
    assert write_if_changed(path, "a", check_mode=True)
    assert not path.parent.exists()
    assert write_if_changed(path, "a")
    assert not write_if_changed(path, "a")
    assert write_if_changed(path, "b")
    assert path.read_text() == "b"


POLICY = """\
apiVersion: networking.gke.io/v1
kind: HealthCheckPolicy
spec:
  default:
    config:
      type: HTTP
      httpHealthCheck:
          requestPath: /health
"""


@pytest.mark.parametrize(("name", "looked_at"), [("c/templates/gke.yaml", True), ("c/README.md", False)])
def test_only_templates_of_a_chart_are_corrected(tmp_path: Path, name: str, looked_at: bool) -> None:
    package = tmp_path / "c.tgz"
    with tarfile.open(package, "w:gz") as archive:
        for member, text in ((name, POLICY), ("c/templates/other.yaml", "kind: ConfigMap\n")):
            info = tarfile.TarInfo(member)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    assert health_check.corrected_text(POLICY) != POLICY
    assert health_check.correct(package) is looked_at
