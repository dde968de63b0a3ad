#!/bin/sh
# Writes the Go code of the schema, or with -check fails if what is there is not current.
# Needs Go and nothing else; the compiler and plugins are pinned in tools/go.mod.
set -eu
cd "$(dirname "$0")/../tools"
exec go run ./protogen -root ../api -out .. "$@" charter/v1/charter.proto
