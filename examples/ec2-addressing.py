#!/usr/bin/env python3
"""Every EC2 call that address management makes or depends on, and how each is refused, asked of a running lab by boto3.

    podway lab up
    eval "$(podway lab env)"
    pip install boto3
    python3 examples/ec2-addressing.py                    # IPv4
    python3 examples/ec2-addressing.py ec2-ipv6.jsonl     # IPv6; any lab will do
    python3 examples/ec2-addressing.py ec2-trunk.jsonl    # trunk and branch interfaces; any lab will do

The rows are in ec2-addressing.jsonl beside this file, or in the file that is named: a call, and what must come back. One
line is printed for each; a row that is answered otherwise is a deviation, and makes the exit code 1. Makes a VPC of its
own (10.199.0.0/16; for IPv6 10.198.0.0/16, for trunks 10.197.0.0/16), and leaves nothing behind. Rows that throttle, fail or lose an answer on purpose run `podway`: PODWAY, else that of the PATH, else
of this checkout.
"""

import ipaddress
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError

HERE = pathlib.Path(__file__).resolve().parent
WAIT_SECONDS = 60
NO_ANSWER = "(no answer)"

ec2 = boto3.client("ec2", config=Config(retries={"total_max_attempts": 1}, read_timeout=30))
PODWAY = os.environ.get("PODWAY") or shutil.which("podway") or str(HERE.parent / "bin/podway")
kept = {}


class Deviation(Exception):
    pass


def fill(value):
    """The value with each ${name} replaced by what an earlier row kept."""
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)\}", lambda match: kept[match[1]], value)
    if isinstance(value, list):
        return [fill(each) for each in value]
    if isinstance(value, dict):
        return {key: fill(each) for key, each in value.items()}
    return value


def at(answer, path):
    """What stands at `a.0.b`; `*` is each item of a list, None what is not there."""
    steps = path.split(".") if path else []
    for index, step in enumerate(steps):
        if answer is None:
            return None
        if step == "*":
            return [at(item, ".".join(steps[index + 1 :])) for item in answer]
        if isinstance(answer, list):
            answer = answer[int(step)] if int(step) < len(answer) else None
        else:
            answer = answer.get(step)
    return answer


def part_of(block, part):
    """Of a block, by `LENGTH+N`: its block of that length at place N, or its address."""
    length, place = (int(each) for each in part.split("+"))
    network = ipaddress.ip_network(block)
    first = network.network_address + (place << (network.max_prefixlen - length))
    return str(first) if length == network.max_prefixlen else f"{first}/{length}"


def fits(value, wanted):
    if isinstance(wanted, str) and wanted.startswith("~"):
        return isinstance(value, str) and re.search(wanted[1:], value) is not None
    if not isinstance(wanted, dict):
        return value == wanted
    if "absent" in wanted:
        return value is None
    if "count" in wanted:
        return value is not None and len(value) == wanted["count"]
    blocks = [ipaddress.ip_network(each) for each in (value if isinstance(value, list) else [value])]
    inside = ipaddress.ip_network(wanted.get("in", "0.0.0.0/0"))
    outside = [ipaddress.ip_network(each) for each in wanted.get("outside", [])]
    return len(blocks) > 0 and all(
        block.subnet_of(inside) and not any(block.overlaps(other) for other in outside) for block in blocks
    )


def ask(row):
    """The answer and the error's code and message, of which one is None."""
    try:
        return getattr(ec2, xform_name(row["call"]))(**fill(row.get("with", {}))), None, ""
    except ClientError as error:
        return None, error.response["Error"]["Code"], error.response["Error"]["Message"]
    except HTTPClientError as error:
        return None, NO_ANSWER, str(error)


def check(row):
    answer, code, message = ask(row)
    if code != row.get("error"):
        raise Deviation(f"{code}: {message}" if code else f"no error, {row['error']} expected")
    if fill(row.get("says", "")) not in message:
        raise Deviation(f"says {message!r}, not {row['says']!r}")
    for path, wanted in row.get("gives", {}).items():
        if not fits(at(answer, path), fill(wanted)):
            raise Deviation(f"{path} is {at(answer, path)!r:.300}, {fill(wanted)!r} expected")
    for name, path in row.get("keep", {}).items():
        path, _, part = path.partition("/")
        kept[name] = part_of(at(answer, path), part) if part else at(answer, path)


def check_in_time(row):
    end = time.monotonic() + (WAIT_SECONDS if row.get("wait") else 0)
    while True:
        try:
            return check(row)
        except Deviation:
            if time.monotonic() >= end:
                raise
            time.sleep(0.2)


def podway(arguments):
    ran = subprocess.run([PODWAY, *arguments], capture_output=True, text=True)
    if ran.returncode != 0:
        raise Deviation(f"podway {' '.join(arguments)}: exit {ran.returncode}: {ran.stderr.strip()}")


def run(row):
    """Prints the row's line; whether it is as expected."""
    if "group" in row:
        print(f"\n{row['group']}")
        return True
    try:
        podway(row["podway"]) if "podway" in row else check_in_time(row)
    except KeyError as error:
        problem = f"no earlier row gave {error}"
    except Exception as error:  # a row must not end the others
        problem = str(error)
    else:
        print(f"ok   {row.get('call', 'podway'):32} {row['what']}{' -> ' + row['error'] if 'error' in row else ''}")
        return True
    print(f"FAIL {row.get('call', 'podway'):32} {row['what']}: {problem}")
    return False


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else "ec2-addressing.jsonl"
    file = pathlib.Path(name)
    rows = [json.loads(line) for line in (file if file.exists() else HERE / name).read_text().splitlines()]
    deviations = [row for row in rows if not run(row)]
    asked = sum("group" not in row for row in rows)
    print(f"\n{asked} expectations, {len(deviations)} deviations")
    return 1 if deviations else 0


if __name__ == "__main__":
    sys.exit(main())
