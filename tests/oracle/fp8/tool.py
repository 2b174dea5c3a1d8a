"""Runs fp8_tool."""

import subprocess


def run(tool, *arguments, data=b""):
    done = subprocess.run([tool, *map(str, arguments)], input=data, stdout=subprocess.PIPE, check=True)
    return done.stdout
