"""What the documents show runs as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from memstore.codec.checksum import checksum
from memstore.format.checked import decode_checked

ROOT = Path(__file__).parents[1]


def blocks(name, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / name).read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(blocks("README.md", "python"))))
def test_python_of_the_readme_runs(tmp_path, number):
    code = "\n".join(blocks("README.md", "python")[: number + 1])
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "Three clusters" in run.stdout


def test_commands_of_the_readme_run(tmp_path):
    with_store = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    (tmp_path / "old-memories").mkdir()
    text = "\n".join(b for b in blocks("README.md", "console") if "$ memstore" in b)
    commands = [line[2:].split("#")[0].split("| jq")[0].strip() for line in text.splitlines() if line.startswith("$ ")]
    assert len(commands) == 22
    for given in commands:
        command = f"{given} --once" if given.endswith("daemon") else given  # it would run until it is told to stop
        run = subprocess.run(
            command, shell=True, cwd=tmp_path, env=with_store, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, (command, run.stderr)
    assert "Retry after a 502." in (tmp_path / "memories.csv").read_text()


def test_every_file_that_a_document_links_to_is_there():
    for document in (ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_module_that_the_architecture_names_is_there():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for name in re.findall(
        r"`((?:engine|wal|hot|manifest|format|fs|testing|cache|codec|ops|backup)/\w*(?:\.py)?)`", text
    ):
        assert (ROOT / "memstore" / name).exists(), name


def test_make_targets_that_documents_name_exist():
    makefile = (ROOT / "Makefile").read_text()
    for document in (ROOT / "README.md", ROOT / "ARCHITECTURE.md"):
        for target in re.findall(r"`?make ([a-z]+)`", document.read_text()):
            assert f"\n{target}:" in makefile, target


def test_every_measured_figure_of_the_readme_stands_on_the_page_of_measurements():
    measured = (ROOT / "docs" / "benchmarks.md").read_text()
    readme = (ROOT / "README.md").read_text()
    figures = re.findall(r"\d[\d.,]* ?(?:[µm]s|[MG]B/s|[MG]iB|records/s|times|x|%)(?!\w)", readme)
    assert [figure for figure in figures if figure not in measured] == []


def test_the_page_of_measurements_is_written_by_its_program_only():
    for name in ("benchmarks.md", "benchmarks.html"):
        assert "python -m benchmarks.page" in (ROOT / "docs" / name).read_text()


def test_the_worked_example_of_the_format_is_true():
    text = (ROOT / "docs" / "FORMAT.md").read_text().split("## A worked example")[1]
    lane, manifest = re.findall(r"^```\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)[:2]
    offset = 0
    for line in lane.splitlines():
        stated, raw = int(line[:3]), line[4:].encode()
        assert stated == offset
        offset += len(raw) + 1
        if b"memory_id" in raw[:14]:
            assert checksum(raw + b"\n") == "49c888ea92444cf0"
            assert len(raw) + 1 == 177
        else:
            assert decode_checked(raw) is not None, raw
    for line in manifest.splitlines():
        assert decode_checked(line.encode()) is not None, line
