"""How soon pages come, in Chromium, for a host with many VMs.

    python benchmarks/pages.py [--vms 1000] [--times 20] [--step 10]

A daemon in a process of its own advises on a simulated host and serves the API, as it does live; a browser without a
window opens each page again and again while the loop goes on. Told are milliseconds until the answer was there whole,
and until the page was drawn with its script and style (load); and how many cycles there were meanwhile.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "service"))

from daemons import Site, wait_until
from test_api_process import answers, free_port

from forestall.service.control import ask

TIMING = """() => {
    const { responseEnd, loadEventEnd } = performance.getEntriesByType("navigation")[0];
    return [responseEnd, loadEventEnd];
}"""


def opened(page: Page, address: str, times: int) -> dict[str, float]:
    """Milliseconds, the middle one and the highest, of so many times."""
    took = []
    for _ in range(times):
        page.goto(address)
        page.wait_for_function("performance.getEntriesByType('navigation')[0].loadEventEnd > 0")
        took.append(page.evaluate(TIMING))
    answered, drawn = np.array(took).T
    return {
        "answered": float(np.median(answered)),
        "answered_most": float(answered.max()),
        "drawn": float(np.median(drawn)),
        "drawn_most": float(drawn.max()),
    }


def main() -> None:
    """Measure, and print a line of JSON for each page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vms", type=int, default=1_000)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--step", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="forestall-pages-") as name:
        folder, port = Path(name), free_port()
        with Site(folder, vms=given.vms, steps=1_000, step=given.step) as site, sync_playwright() as play:
            settings = folder / "forestall.toml"
            settings.write_text(
                settings.read_text().replace("lease_seconds = 10", "lease_seconds = 600")
                + f'[api]\nlisten = "127.0.0.1:{port}"\n'
            )
            site.daemon("advise", connect=f"simulated:{folder}/trace.parquet")
            wait_until(answers(port), "the API answers")
            wait_until(lambda: (ask(site.state, {"command": "status"}) or {}).get("cycles"), "a cycle")
            token = site.call("token", "create", "ann", "--role", "admin").stdout.strip()
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{port}/")
            page.get_by_label("Token").fill(token)
            page.keyboard.press("Enter")
            page.wait_for_selector("#hosts")
            host = (ask(site.state, {"command": "status"}) or {})["host"]
            for path in ("/", "/vms", f"/hosts/{host}", "/vms/vm-0", "/policies", "/models", "/audit"):
                print(json.dumps({"page": path, **opened(page, f"http://127.0.0.1:{port}{path}", given.times)}))
            browser.close()
            status = ask(site.state, {"command": "status"}) or {}
            print(json.dumps({name: status[name] for name in ("vms", "cycles", "cycle_seconds", "uptime_seconds")}))


if __name__ == "__main__":
    main()
