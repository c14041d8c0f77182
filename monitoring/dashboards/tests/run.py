#!/usr/bin/python3
"""Draws every panel from a drill's data: `make test-dashboards`.

Starts a lab with Prometheus, Alertmanager and exporters beside it, loses the primary and then a region, asks Prometheus for the
data of each query, and draws each dashboard with Perses in headless Chromium. Fails with the name of each panel that shows
nothing. Pictures are in target/dashboards/pictures; `--pictures docs/dashboards` replaces those of the documentation.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import declaration
import grafana_schema
import panel_data
from drill import ROOT, Drill

OUT = ROOT / "target/dashboards"
MODULES = OUT / "draw"
CLUSTER = "lab"
DRAW_SECS = 900
PICTURE_BYTES = 200_000


def generate(ranges):
    """Writes the dashboards for the drill's time ranges."""
    command = [HERE.parent / "generate", "--into", OUT / "drawn"]
    for declared in declaration.read_all():
        span = ranges.get(declared["name"], ranges["default"])
        command += ["--window", f"{declared['name']}={round(span['end'] - span['start'])}s"]
    subprocess.run([sys.executable, *map(str, command)], check=True)


def validate():
    """Returns what the schemas of Perses' and Grafana's own packages reject."""
    found = []
    if subprocess.run(["node", "validate.js", OUT / "drawn/perses"], cwd=MODULES, check=False).returncode:
        found.append("Perses' schemas reject a dashboard: see above")
    schema = grafana_schema.make(MODULES, OUT / "grafana.schema.json")
    made = [json.loads(path.read_text()) for path in sorted((OUT / "drawn/grafana").glob("*.json"))]
    return found + list(grafana_schema.faults(schema, made))


def draw(url, ranges_file, pictures):
    """Bundles the page, and draws each dashboard. Returns whether every panel shows something."""
    subprocess.run(["node", "build.js", OUT / "page.js"], cwd=MODULES, check=True)
    command = ["node", "draw.js", OUT / "page.js", OUT / "drawn/perses", url, ranges_file, pictures]
    return subprocess.run(command, cwd=MODULES, timeout=DRAW_SECS, check=False).returncode == 0


def compress(pictures):
    """Reduces each picture to 64 colours, and returns those that stay too large."""
    files = sorted(pictures.glob("*.png"))
    subprocess.run(["pngquant", "--force", "--ext", ".png", "--strip", "--speed", "1", "64", *files], check=True)
    return [f"{file.name} has {file.stat().st_size} bytes, more than {PICTURE_BYTES}" for file in files if file.stat().st_size > PICTURE_BYTES]


def check(url, ranges_file, pictures):
    """Returns the faults of queries and pictures."""
    ranges = json.loads(ranges_file.read_text())
    found = panel_data.faults(declaration.read_all(), url, ranges, CLUSTER)
    for file in (HERE.parent / "draw").iterdir():
        shutil.copy(file, MODULES)
    generate(ranges)
    found += validate()
    if not draw(url, ranges_file, pictures):
        found.append("some panels show nothing: see above")
    return found + compress(pictures)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=76, help="of the lab")
    parser.add_argument("--pictures", type=Path, default=OUT / "pictures")
    options = parser.parse_args()
    shutil.rmtree(OUT / "drill", ignore_errors=True)
    (OUT / "drill").mkdir(parents=True)
    drill = Drill(options.number, OUT / "drill")
    try:
        drill.start()
        drill.run()
        found = check(drill.stack.prometheus_url, OUT / "drill/ranges.json", options.pictures.resolve())
    finally:
        drill.close()
    for fault in found:
        print(f"FAILED: {fault}")
    print(f"test-dashboards: {len(found)} faults, pictures in {options.pictures}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
