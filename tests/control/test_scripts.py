"""The shell scripts without root: options, refusals, plans; and deploy-pinned.sh on trees of its own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted([*(ROOT / "scripts" / "iptables").glob("*.sh"), *(ROOT / "scripts" / "perf").glob("*.sh"),
                  ROOT / "scripts" / "deploy-pinned.sh"])
UP = ROOT / "scripts" / "iptables" / "up.sh"
DEPLOY = ROOT / "scripts" / "deploy-pinned.sh"
NO_CAPABILITIES = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


def call(*command, expect=0, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, check=False, **options)
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def plan(*arguments):
    """What up.sh would do with an empty table: no privileges, no look at this machine's rules."""
    return call(*NO_CAPABILITIES, "sh", UP, "--dry-run", *arguments).stdout


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_scripts_are_clean():
    assert call("shellcheck", "-x", *SCRIPTS, cwd=ROOT).stdout == ""


@pytest.mark.parametrize("script", [path for path in SCRIPTS if path.name not in ("chain.sh", "offload.sh")], ids=lambda path: path.name)
def test_help(script):
    assert "Exit codes:" in call(script, "--help").stdout


@pytest.mark.parametrize("arguments, says", [
    ("--queues 7:0", "use 0:7"),
    ("--queues 0:70000", "65535"),
    ("--queues x", "0:7"),
    ("--queues 1:2:3", "A:B"),
    ("--queues", "needs a value"),
    ("--hook prerouting", "forward, input or output"),
    ("--fanout random", "balance, flow or cpu"),
    ("--fail maybe", "open or closed"),
    ("--fanout flow --queues 0:300", "256"),
    ("--mark-mask 0xff", "--fanout flow"),
    ("--fanout flow --queues 0:3 --mark-mask 0x5", "side by side"),
    ("--fanout flow --queues 0:3 --mark-mask 0x3", "room for 3 queues"),
    ("--fanout flow --queues 0:3 --mark-mask 0", "0xff000000"),
    ("--fanout flow --queues 0:3 --mark-mask 0x1ffffffff", "0xff000000"),
    ("--skip-mark 1", "VALUE/MASK"),
    ("--skip-mark 1/0", "VALUE/MASK"),
    ("--allow 10.0.0.1:ssh", "port"),
    ("--allow 10.0.0.1:", "port"),
    ("--allow [2001:db8::1]:0", "port"),
    ("--allow host.example", "ADDRESS"),
    ("--allow 1;reboot", "ADDRESS"),
    ("--name FORWARD", "another"),
    ("--name A;B", "letters"),
    ("--name ABCDEFGHIJKLMNOPQRSTUVWXYZ", "20"),
    ("--name X-Q", "inside"),
    ("--family 5", "both, 4 or 6"),
    ("--frontend ebtables", "nft or legacy"),
    ("--wrong 1", "no such option"),
])
def test_up_refuses_and_says_what_to_write(arguments, says):
    assert says in call(UP, "--dry-run", *arguments.split(), expect=2).stderr


def test_without_privilege_the_mend_is_named():
    for name in ("up.sh", "down.sh", "status.sh"):
        assert "sudo" in call(*NO_CAPABILITIES, "sh", UP.with_name(name), expect=3).stderr
    other = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    assert "sudo" in call(*other, "sh", "-s", "--", "--remove", expect=3, input=DEPLOY.read_text()).stderr


def test_without_iptables_the_package_is_named(tmp_path):
    for name in ("sh", "dirname", "cat", "sed", "grep", "id"):
        (tmp_path / name).symlink_to(shutil.which(name))
    for name in ("up.sh", "down.sh", "status.sh"):
        done = call("sh", UP.with_name(name), "--family", "4", expect=3, env={"PATH": str(tmp_path)})
        assert "apt-get install iptables" in done.stderr


def test_plan_of_each_mode():
    assert "-A TIGERFOX -j NFQUEUE --queue-balance 0:7\n" in plan("--queues", "0:7")
    assert "-A TIGERFOX -j NFQUEUE --queue-num 3 --queue-bypass\n" in plan("--queues", "3", "--fail", "open")
    assert "--queue-balance 4:5 --queue-cpu-fanout\n" in plan("--queues", "4:5", "--fanout", "cpu")
    hashed = plan("--queues", "4:5", "--fanout", "flow", "--mark-mask", "none")
    assert "--hmark-mod 2" in hashed and "--mark 0x54460001 -j NFQUEUE --queue-num 5\n" in hashed
    assert "HMARK" not in plan("--queues", "4", "--fanout", "flow", "--mark-mask", "none")
    assert "0x10000/0x00ff0000" in plan("--queues", "4:5", "--fanout", "flow")
    dealt = plan("--queues", "4:5", "--fanout", "flow", "--mark-mask", "0xf000")
    assert "-A TIGERFOX-Q -m connmark --mark 0x2000/0xf000 -j NFQUEUE --queue-num 5\n" in dealt and "HMARK" not in dealt
    assert "-A INPUT ! -i lo -j TIGERFOX\n" in plan("--hook", "input") and "FORWARD" not in plan("--hook", "input")
    assert plan("--hook", "input", "--hook", "input").count("-A INPUT ") == plan("--hook", "input").count("-A INPUT ")
    assert "*filter" not in hashed + dealt


# deploy-pinned.sh

IRQS = {24: "eth0-TxRx-0", 25: "eth0-TxRx-1", 26: "other"}


@pytest.fixture
def tree(tmp_path):
    """A machine with six cores, an interface with two receive queues and interrupts, one without, and systemd."""
    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    write("sys/devices/system/cpu/online", "0-5\n")
    for number in IRQS:
        write(f"proc/irq/{number}/smp_affinity_list", "0-5\n")
    write("proc/interrupts", "".join(f" {number}: 1 2 PCI-MSI {name}\n" for number, name in IRQS.items()))
    write("proc/sys/kernel/random/boot_id", "first\n")
    for queue in ("eth0/queues/rx-0", "eth0/queues/rx-1", "veth1/queues/rx-0"):
        write(f"sys/class/net/{queue}/rps_cpus", "00\n")
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    return tmp_path


def content(tree):
    return {str(path.relative_to(tree)): path.read_text() for path in sorted(tree.rglob("*")) if path.is_file()}


def deploy(tree, *arguments, expect=0):
    return call(DEPLOY, "--root", tree, *arguments, expect=expect)


def test_deploy_plans_by_default_and_changes_nothing(tree):
    before = content(tree)
    out = deploy(tree, "--interface", "eth0", "--interface", "veth1", "--rules", "/etc/tigerfox/a.rules", "--cores", "2-5").stdout
    assert content(tree) == before
    assert ("start --queues 0:3 --pin 2,3,4,5 --fail closed --iptables --hook forward --fanout flow "
            "--rules /etc/tigerfox/a.rules") in out
    assert "/proc/irq/26" not in out
    assert "veth1 has no interrupts of its own" in out
    for row in ("0 2 worker", "3 5 worker", "- 0 supervisor, event writer, everything else",
                "/proc/irq/24/smp_affinity_list 0-5 2", "/proc/irq/25/smp_affinity_list 0-5 3",
                "/sys/class/net/eth0/queues/rx-1/rps_cpus 00 3c", "/sys/class/net/veth1/queues/rx-0/rps_cpus 00 3c"):
        assert row in [" ".join(line.split()) for line in out.splitlines()]


def test_deploy_apply_and_remove_restore_everything(tree):
    before = content(tree)
    options = ["--interface", "eth0", "--rules", "/a.rules", "--cores", "4,5", "--housekeeping", "0-1", "--first-queue", "8",
               "--apply"]
    deploy(tree, *options)
    after = content(tree)
    assert after["proc/irq/24/smp_affinity_list"] == "4\n" and after["proc/irq/25/smp_affinity_list"] == "5\n"
    assert after["sys/class/net/eth0/queues/rx-0/rps_cpus"] == "0\n"       # two receive queues for two workers
    unit = after["etc/systemd/system/tigerfox.service"]
    assert "Restart=always\n" in unit and "CPUAffinity=4 5 0 1\n" in unit and "--queues 8:9 " in unit
    deploy(tree, *options)
    assert content(tree) == after
    assert "echo 0-5 >/proc/irq/24/smp_affinity_list" in deploy(tree, "--remove", "--dry-run").stdout
    assert content(tree) == after
    deploy(tree, "--remove")
    assert content(tree) == before
    assert "nothing" in deploy(tree, "--remove").stderr


def test_deploy_does_not_restore_the_numbers_of_another_boot(tree):
    deploy(tree, "--interface", "eth0", "--rules", "/a.rules", "--apply")
    (tree / "proc/sys/kernel/random/boot_id").write_text("second\n")
    (tree / "proc/irq/24/smp_affinity_list").write_text("0-3\n")
    deploy(tree, "--interface", "eth0", "--tune")
    assert (tree / "proc/irq/24/smp_affinity_list").read_text() == "1\n"
    deploy(tree, "--remove")
    assert (tree / "proc/irq/24/smp_affinity_list").read_text() == "0-3\n"
    assert not (tree / "etc/systemd/system/tigerfox.service").exists()


def test_deploy_leaves_foreign_units_alone(tree):
    unit = tree / "etc/systemd/system/tigerfox.service"
    unit.write_text("[Service]\n")
    assert "not ours" in deploy(tree, "--interface", "eth0", "--rules", "/a.rules", "--apply", expect=1).stderr
    deploy(tree, "--remove")
    assert unit.read_text() == "[Service]\n"


def test_deploy_without_systemd_says_so(tree):
    (tree / "run/systemd/system").rmdir()
    out = deploy(tree, "--interface", "veth1", "--rules", "/a.rules", "--apply").stdout
    assert "systemd does not run here" in out
    assert not (tree / "etc/systemd/system/tigerfox.service").exists()
    assert (tree / "sys/class/net/veth1/queues/rx-0/rps_cpus").read_text() == "3e\n"


@pytest.mark.parametrize("arguments, says", [
    ("--interface eth9 --rules /a", "no such interface"),
    ("--rules /a", "eth0"),
    ("--interface eth0", "--rules"),
    ("--interface eth0 --rules /a --cores 7", "not online"),
    ("--interface eth0 --rules /a --cores 5-2", "2-5,7"),
    ("--interface eth0 --rules /a --cores a", "2-5,7"),
    ("--interface eth0 --rules /a --name x/y", "letters"),
    ("--interface eth0 --rules /a --fanout best", "balance"),
    ("--interface eth0 --rules /a%b", "unit file"),
])
def test_deploy_refuses_and_says_what_to_write(tree, arguments, says):
    assert says in deploy(tree, *arguments.split(), expect=2).stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_deploy_unit_is_understood_by_systemd(tree):
    deploy(tree, "--interface", "eth0", "--rules", "/a.rules", "--tigerfox", shutil.which("true"), "--apply")
    done = call("systemd-analyze", "verify", "--man=no", tree / "etc/systemd/system/tigerfox.service")
    assert "tigerfox.service" not in done.stderr
