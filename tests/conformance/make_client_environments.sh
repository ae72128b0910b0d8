#!/usr/bin/env bash
# Builds two clients of TensorFlow Serving that are neither segkit's nor TensorFlow's, each in an
# environment of its own, because their dependencies do not fit segkit's:
#
#   ovmsclient 2023.1    Python, Apache-2.0
#   perf_analyzer 2.41   C++, from the wheel of tritonclient, BSD-3-Clause; needs Debian's libb64-0d
#
# Usage: tests/conformance/make_client_environments.sh FOLDER
# It needs Python 3.11 (PYTHON names another), apt-get and dpkg-deb, and changes nothing outside
# FOLDER. The last two lines it prints tell the conformance tests where the clients are.
set -euo pipefail

folder=${1:?usage: make_client_environments.sh FOLDER}
python=${PYTHON:-python3.11}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
exec 3>&1 1>&2

"$python" -m venv "$folder/ovmsclient"
"$folder/ovmsclient/bin/pip" install --quiet --disable-pip-version-check ovmsclient==2023.1

# The wheel's tag is manylinux1; nothing of it is imported, so it is unpacked and not installed.
"$python" -m venv "$folder/perf_analyzer"
"$folder/perf_analyzer/bin/pip" install --quiet --disable-pip-version-check --no-deps \
  tritonclient==2.41.1 nvidia-cuda-runtime-cu12==12.9.79
(cd "$folder/perf_analyzer" && apt-get download --quiet libb64-0d && dpkg-deb -x libb64-0d_*.deb .)

cat >"$folder/perf_analyzer/run" <<'EOF'
#!/usr/bin/env bash
here=$(cd "$(dirname "$0")" && pwd)
libraries=$(echo "$here"/lib/python*/site-packages/nvidia/cuda_runtime/lib "$here"/usr/lib/*-linux-gnu)
export LD_LIBRARY_PATH=${libraries// /:}
exec "$here/bin/perf_analyzer" "$@"
EOF
chmod +x "$folder/perf_analyzer/run" "$folder/perf_analyzer/bin/perf_analyzer"

echo "export SEGKIT_OVMSCLIENT_PYTHON=$folder/ovmsclient/bin/python" >&3
echo "export SEGKIT_PERF_ANALYZER=$folder/perf_analyzer/run" >&3
