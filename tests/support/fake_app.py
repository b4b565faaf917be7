"""A stand-in for a phone with the app: `pm`, `am`, `logcat`, `run-as` and `pidof` as scripts.

What the app would do is done by the stand-in for the trainer; its private folder is `files`.
"""

from pathlib import Path

from tests.support.fake_trainer import write_fake_runtime

_SCRIPTS = {
    "pm": r"""
case $1 in
    path) [ -e FOLDER/installed.apk ] && echo package:FOLDER/installed.apk ;;
    install)
        for apk; do :; done
        if [ -e FOLDER/refuse ]; then echo "Failure [$(cat FOLDER/refuse): because]"; exit 1; fi
        cp "$apk" FOLDER/installed.apk && echo Success ;;
esac
""",
    "am": r"""
echo "Starting service: Intent { }"
shift
while [ $# -gt 0 ]; do
    case $1 in
        -a) action=${2##*.}; shift ;;
        --es) eval "x_$(echo "$2" | tr - _)=\$3"; shift 2 ;;
    esac
    shift
done
run=FOLDER/files/runs/$x_run
say() {
    line='{"request":"%s","ok":%s,"error":%s,"file":%s}\n'
    printf "$line" "$x_request" "$1" "$2" "$3" >>FOLDER/log
}
case $action in
    TRAIN)
        if [ "$x_bundle" = refused ]; then
            say false '"Bundle “refused”: it is damaged"' null
            exit 0
        fi
        mkdir -p "$run"
        echo '{"state":"running"}' >"$run/run.json"
        : >"$run/reserve"
        rm -f FOLDER/trainer.log
        set -- "$run" "${x_steps:-6}" $x_resume
        nohup setsid FOLDER/bin/app-process "$@" >FOLDER/trainer.log 2>&1 </dev/null &
        while [ ! -s FOLDER/trainer.log ]; do sleep 0.1; done  # It has left the shell's session.
        say true null null ;;
    STOP) touch FOLDER/files/runs/*/stop; say true null null ;;
    EXPORT) say true null "\"$x_run (1).zip\"" ;;
esac
""",
    "app-process": r"""
FOLDER/runtime/trainer train --out "$1" --steps "$2" --lr 0 ${3:+--resume}
echo '{"state":"completed"}' >"$1/run.json.new"
mv "$1/run.json.new" "$1/run.json"
""",
    "logcat": "echo '--------- beginning of main'; cat FOLDER/log 2>/dev/null\n",
    "run-as": r"""
[ -e FOLDER/release ] && { echo "run-as: package not debuggable: $1"; exit 1; }
shift
cd FOLDER && exec "$@"
""",
    "pidof": "echo 4242\n",
}


def write_fake_app(folder: Path, version: str) -> Path:
    """Write the programs below `folder`; return the folder to put on the device's PATH."""
    (folder / "bin").mkdir(parents=True)
    (folder / "files/runs").mkdir(parents=True)
    write_fake_runtime(folder / "runtime", version=version, pause=0.2)
    for name, script in _SCRIPTS.items():
        path = folder / "bin" / name
        text = script.replace("FOLDER", str(folder))
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)
    return folder / "bin"
