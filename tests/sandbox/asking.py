"""Asks one model again and again until told to stop, and says how often it failed. Runs inside the sandbox's network.

``asking.py BASE_URL MODEL`` prints a line per failure; after its standard input has been closed one line of JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.error
import urllib.request


def ask(url: str, model: str) -> str:
    """One small completion; "" where the asked model answered, else what came instead."""
    body = json.dumps({"model": model, "prompt": "One, two,", "max_tokens": 4}).encode()
    request = urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            said = json.load(answer).get("model")
            return "" if said == model else f"answered by {said}"
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read()[:200].decode('utf-8', 'replace')}"
    except OSError as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    url, model = sys.argv[1:3]
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    asked, failures = 0, []
    while not over.is_set():
        wrong = ask(url, model)
        asked += 1
        if wrong:
            failures.append(wrong)
            print(f"{time.strftime('%H:%M:%S')} {wrong}", flush=True)
        time.sleep(0.02)
    print(json.dumps({"asked": asked, "failed": len(failures), "failures": failures[:5]}), flush=True)


if __name__ == "__main__":
    main()
