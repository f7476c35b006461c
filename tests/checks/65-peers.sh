#!/bin/sh
# Real clients against the examples, and the verdicts of two other implementations: see tests/peers/run.sh.
exec sh tests/peers/run.sh
