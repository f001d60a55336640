"""A backend that speaks the real one's contract and does what its environment asks: FAKE_BACKEND=behaviour.

done, slow (with a child process; its ids go to FAKE_BACKEND_PIDS), stubborn (slow, ignores SIGTERM), bad_input,
out_of_memory, cancelled, failed, silent_failure, traceback, segfault, killed, garbage, pieces, no_summary,
report_failed (with the result in its place).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from gui_support.fake_result import write_result


def tell(**event):
    print(json.dumps(event), flush=True)


def progress(stage, overall, left=None, message=""):
    tell(event="progress", stage=stage, fraction=0.5, overall=overall, seconds_left=left, message=message)


def fail(code, message):
    tell(event="error", exit_code=code, message=message)
    print(message, file=sys.stderr)
    sys.exit(code)


def option(name, default=None):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def sleep_with_child():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    Path(os.environ["FAKE_BACKEND_PIDS"]).write_text(f"{os.getpid()} {child.pid}", encoding="utf-8")
    progress("network", 0.42, 95.0, "Sampling slice 12 of 80")
    time.sleep(120)


def propagate(output):
    """A propagation by a deformation that is known, see `make_propagation`."""
    sys.path.append(str(Path(__file__).resolve().parents[2] / "slicer"))
    import SimpleITK as sitk
    from make_propagation import make_propagation

    from rtuncertainty.core import structure_set

    planning, daily = (sitk.ReadImage(option(name)) for name in ("--planning", "--daily"))
    structures = list(structure_set.read(option("--structures")).values())
    for structure in structures:
        structure.mask = sitk.Resample(structure.mask, planning, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    make_propagation(
        output, planning, structures, daily, names=(Path(option("--planning")).stem, Path(option("--daily")).stem)
    )


def dvh(table):
    """Tables as the real backend's: a straight curve for each structure, with bands where there are any."""
    from rtuncertainty.core import structure_set

    numbers = ["mean_gy", "d98_gy", "d95_gy", "d50_gy", "d2_gy"]
    head = [
        "structure",
        "volume_ml",
        *numbers,
        *(f"{c}_{end}" for c in numbers for end in ("lower", "upper")),
        "level",
        "calibrated",
        "note",
    ]
    rows, curves = [head], [["structure", "dose_gy", "volume_percent", "lower_percent", "upper_percent"]]
    for index, name in enumerate(structure_set.read(option("--structures"), empty=True)):
        bands, d = "--bands" in sys.argv, 30 + index
        ends = [v for _ in numbers for v in (d - 1, d + 1)] if bands else [""] * 10
        rows.append(
            [name, 12.5, *[d] * 5, *ends, 0.9 if bands else "", ("volume" if index == 0 else "no") if bands else "", ""]
        )
        for dose in range(0, 61, 5):
            volume = max(0, 100 - 2 * dose)
            curves.append([name, dose, volume, *((max(0, volume - 5), min(100, volume + 5)) if bands else ("", ""))])
    table.parent.mkdir(parents=True)
    for path, lines in ((table, rows), (table.with_name("dvh_curves.csv"), curves)):
        path.write_text("\n".join(",".join(map(str, line)) for line in lines) + "\n", encoding="utf-8")
    tell(event="note", message="The bands of gtv are not calibrated.")


def export(folder):
    """What `export` leaves: a folder with files."""
    folder.mkdir(parents=True)
    for kind in sys.argv[sys.argv.index("--what") + 1 : sys.argv.index("--output")]:
        if not kind.startswith(("-", "/")):
            (folder / f"{kind}.dcm").write_text("DICM", encoding="utf-8")
    shutil.copytree(option("--result"), os.environ["FAKE_BACKEND_ARGUMENTS"] + ".result", dirs_exist_ok=True)


def main():
    behaviour = os.environ.get("FAKE_BACKEND", "done")
    log = os.environ.get("FAKE_BACKEND_ARGUMENTS")
    if log:
        Path(log).write_text(json.dumps(sys.argv), encoding="utf-8")
    output = Path(option("--output"))
    if behaviour == "slow":
        return sleep_with_child()
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return sleep_with_child()
    progress("read", 0.05, None, "Reading the volume")
    if behaviour == "bad_input":
        fail(2, "mr.nrrd: the image holds NaN; replace them first.")
    if behaviour == "out_of_memory":
        fail(3, "Even the smallest tiles do not fit.")
    if behaviour == "cancelled":
        sys.exit(4)
    if behaviour == "failed":
        fail(1, "weights.pt: the checksum differs from the card's.")
    if behaviour == "silent_failure":
        sys.exit(1)
    if behaviour == "traceback":
        raise RuntimeError("something the backend did not foresee")
    if behaviour == "segfault":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    if behaviour == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "garbage":
        sys.stdout.buffer.write(b'\xff\xfe\x00 not json\n{"event": 3}\n[1, 2]\n{"half": \n' + b"x" * 70_000 + b"\n")
        sys.stdout.flush()
    if behaviour == "pieces":
        line = json.dumps({"event": "note", "message": "größer als üblich"}, ensure_ascii=False).encode() + b"\n"
        for byte in line:
            sys.stdout.buffer.write(bytes([byte]))
            sys.stdout.buffer.flush()
    if behaviour == "no_summary":
        sys.exit(0)
    progress("network", 0.5, 12.0, "Sampling")
    if sys.argv[1] == "propagate":
        propagate(output)
    elif sys.argv[1] == "dvh":
        dvh(output)
    elif sys.argv[1] == "export":
        export(output)
    else:
        write_result(output, option("--input"), reference="--reference" in sys.argv, report="--report" in sys.argv)
    if behaviour == "report_failed":
        message = f"{output}: the result is there, but Writing the report: ValueError: no picture"
        tell(event="error", exit_code=1, message=message, output=str(output))
        sys.exit(1)
    tell(event="done", output=str(output))


if __name__ == "__main__":
    main()
