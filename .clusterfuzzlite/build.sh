#!/bin/bash -eu
# ClusterFuzzLite asks for a script here.
exec fuzz/oss-fuzz/build.sh
