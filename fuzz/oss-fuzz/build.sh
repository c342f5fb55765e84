#!/bin/bash -eu
# Builds the fuzz targets for OSS-Fuzz and ClusterFuzzLite: writes programs, seed corpora, dictionaries and options into $OUT.
#
# The project is in $SRC/pvh. Without cargo-fuzz (outside their images) fuzz/run.sh builds the targets.
cd "$SRC/pvh"
if cargo fuzz --version >/dev/null 2>&1; then
	cargo fuzz build -O --debug-assertions
	program() { echo "fuzz/target/x86_64-unknown-linux-gnu/release/$1"; }
else
	fuzz/run.sh build
	program() { fuzz/run.sh absolute "$1"; }
fi
for target in $(fuzz/run.sh list); do
	cp "$(program "$target")" "$OUT/$target"
	inputs=(fuzz/seeds/"$target")
	for kind in corpus crashes; do if [ -d "fuzz/$kind/$target" ]; then inputs+=("fuzz/$kind/$target"); fi; done
	rm -f "$OUT/${target}_seed_corpus.zip"
	find "${inputs[@]}" -type f -print0 | xargs -0 zip -q -j "$OUT/${target}_seed_corpus.zip"
	printf '[libfuzzer]\nmax_len = %s\nmalloc_limit_mb = 64\nrss_limit_mb = 768\ntimeout = 10\n' \
		"$(fuzz/run.sh max-len "$target")" >"$OUT/$target.options"
	if [ -e "fuzz/dict/$target.dict" ]; then cp "fuzz/dict/$target.dict" "$OUT/$target.dict"; fi
done
