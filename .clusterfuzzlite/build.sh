#!/bin/bash -eu
# ClusterFuzzLite expects a build script here.
exec fuzz/oss-fuzz/build.sh
