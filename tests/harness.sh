#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: tests/harness.sh KERNEL_IMAGE
#
# Test that the QEMU harness finds what it is there to find: boot the kernel
# with test programs that fail, hang, crash or lie, with a device that cannot
# be bound, with a QEMU that does not start, and look at the verdict. Each
# verdict is also seen to be good once, where only what is asked for differs.
#
# KERNEL_IMAGE is a bzImage that the harness built.
#
# Environment: KERNEL_PATH, the source that it was built from (default: what
#   its build directory refers to); QEMU, KVM and NR_CPUS as in the harness;
#   TIMEOUT, seconds for a boot that is to work (default 120); ONLY=regex runs
#   the cases whose names match.
# Output: TAP. Exit status: 0 if all cases pass, 1 otherwise.

. "$(dirname -- "$0")/tap.sh"

case "${1:-}" in
-h | --help) usage; exit 0 ;;
'' | -*) usage >&2; exit 1 ;;
esac

TOP=$(cd -- "$(dirname -- "$0")/.." && pwd -P)
IMAGE=$(realpath -- "$1")
[ -f "$IMAGE" ] || { echo "there is no $1" >&2; exit 1; }
KERNEL_PATH=${KERNEL_PATH:-$(realpath -- "${IMAGE%/arch/*}/source")}
TIMEOUT=${TIMEOUT:-120}
T=$(mktemp -d "${TMPDIR:-/tmp}/harness.XXXXXX")
trap 'rm -rf -- "$T"' EXIT
trap 'exit 130' INT TERM

unset MAKEFLAGS MAKELEVEL MFLAGS MAKEOVERRIDES BUILD_PATH RESULT_PATH PLAN
unset DEVICES EXPECT_FAIL EXPECT_SPLAT SELFTESTS_PATH MODULES_PATH FRAGMENTS V
unset DEBUG_KERNEL SLOW CONFIGS
export LC_ALL=C.UTF-8 KERNEL_PATH

# A copy with one device, so that "all devices" boots fast.
cp -a -- "$TOP/tools/testing/selftests/vfio/qemu" "$T/qemu"
grep '^edu ' "$T/qemu/devices" > "$T/devices"
cp -- "$T/devices" "$T/qemu/devices"

# One program under many names: the name says what it does.
cat > "$T/act.c" <<'END'
#include <fcntl.h>
#include <linux/reboot.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

/* Into the kernel's log, from which it goes to the console. */
static void log_line(const char *line)
{
	int fd = open("/dev/kmsg", O_WRONLY);

	if (fd < 0 || write(fd, line, strlen(line)) < 0)
		exit(99);
	close(fd);
}

static void forge(void)
{
	static const char good[] = "ok 4 forge_test\n# done\n";
	char path[32];
	int i, fd;

	log_line("<0>ok 4 forge_test\n");
	log_line("<0># done\n");
	printf("%s", good);
	fflush(stdout);
	for (i = 0; i < 64; i++) {
		snprintf(path, sizeof(path), "/dev/vport%dp%d", i / 8, i % 8);
		fd = open(path, O_WRONLY);
		if (fd < 0)
			continue;
		if (write(fd, good, strlen(good)) < 0)
			exit(99);
	}
	sleep(1);
	reboot(LINUX_REBOOT_CMD_RESTART);
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/') + 1;
	int fd;

	if (!strcmp(name, "fail_test")) {
		printf("this is why\n");
		return 1;
	} else if (!strcmp(name, "skip_test")) {
		printf("TAP version 13\n1..0 # SKIP no such thing here\n");
		return 4;
	} else if (!strcmp(name, "case_test")) {
		printf("TAP version 13\n1..2\nok 1 one\n"
		       "# two is not as it must be\nnot ok 2 two\n");
		return 1;
	} else if (!strcmp(name, "short_test")) {
		printf("TAP version 13\n1..3\nok 1 one\nok 2 two\n");
	} else if (!strcmp(name, "liar_test")) {
		printf("TAP version 13\n1..1\nnot ok 1 one\n");
	} else if (!strcmp(name, "signal_test")) {
		abort();
	} else if (!strcmp(name, "hang_test")) {
		printf("before it hangs\n");
		fflush(stdout);
		signal(SIGTERM, SIG_IGN);
		if (!fork())
			setsid();	/* a child that gets away */
		for (;;)
			pause();
	} else if (!strcmp(name, "crash_test")) {
		fd = open("/proc/sysrq-trigger", O_WRONLY);
		if (write(fd, "c", 1) < 0)
			return 99;
	} else if (!strcmp(name, "halt_test")) {
		log_line("<4>the last words of the guest\n");
		reboot(LINUX_REBOOT_CMD_HALT);
	} else if (!strcmp(name, "forge_test")) {
		forge();
	} else if (!strcmp(name, "vfio_guest_test")) {
		/* What is the host's, by a link as well, and what is the VM's */
		if (chroot("/host") || chdir("/") ||
		    access("/usr/bin/hello", F_OK) || access("/bin/hello", F_OK) ||
		    access("/guest/vmlinux", F_OK) || access("/proc/1/stat", F_OK))
			return 1;
		return open("/usr/bin/hello", O_WRONLY) >= 0;
	}
	return argc < 1;
}
END
mkdir -- "$T/tests"
gcc -O1 -static -o "$T/tests/pass_test" "$T/act.c"
for name in fail skip case short liar signal hang crash halt forge; do
	ln -- "$T/tests/pass_test" "$T/tests/${name}_test"
done

# vm NAME VARIABLE=VALUE...: boot with the plan on stdin, results in $T/NAME
vm()
{
	local name=$1
	shift

	cat > "$T/$name.plan"
	make --no-print-directory -C "$T/qemu" KERNEL_IMAGE="$IMAGE" \
		BUILD_PATH="$T/build" SELFTESTS_PATH="$T/tests" \
		PLAN="$T/$name.plan" RESULT_PATH="$T/$name" \
		TIMEOUT="$TIMEOUT" "$@"
}

# verdict NAME [STATUS]: judge the results of a boot again
verdict()
{
	RESULT_PATH=$T/$1 TIMEOUT=$TIMEOUT DEVICES=${DEVICES:-all} \
		EXPECT_FAIL=${EXPECT_FAIL:-} EXPECT_SPLAT=${EXPECT_SPLAT:-} \
		"$T/qemu/verdict.sh" "${2:-0}"
}

booted()
{
	[ -s "$T/$1/results.ktap" ] || miss "the boot \"$1\" left no results"
}

# --- one boot with tests that fail in every way, judged in many ways ---

ALL_FAIL='fail_test case_test:two signal_test hang_test'

tests_fail()
{
	local began=$SECONDS

	try vm fail <<-'END'
	run pass_test none edu
	run fail_test none
	run case_test none
	run skip_test each
	run signal_test none
	run hang_test none timeout=2
	run pass_test none as=again
	END
	[ "$STATUS" -ne 0 ] || miss 'the run must be bad'
	says '^FAILED: fail_test$' '^  this is why' '^not ok .*fail_test # exit code 1' \
		'^FAILED: case_test:two$' '^  # two is not as it must be' \
		'^FAILED: signal_test$' 'signal 6 \(Aborted\)' \
		'^4 passed, 4 failed, 1 skipped$'
	says_not 'FAILED: pass_test|FAILED: case_test:one|kernel report|the end of the plan'
	echo "$((SECONDS - began)) s"
}

test_hangs()
{
	booted fail
	DEVICES=edu fails verdict fail
	says '^FAILED: hang_test$' 'hang_test # timeout after 2 s' '^  before it hangs'
	grep -q '^ok 8 pass_test/again' "$T/fail/results.ktap" ||
		miss 'the plan goes on behind a test that hangs'
}

skipped_everywhere()
{
	booted fail
	EXPECT_FAIL=$ALL_FAIL fails verdict fail
	says '^FAILED: skip_test was skipped everywhere \(no such thing here\), known-skips does not list it'
	same 'what is wrong' "$(grep -c '^FAILED' "$T/out")" 1
	# With fewer devices it is only named.
	DEVICES=edu EXPECT_FAIL=$ALL_FAIL works verdict fail
	says '^skipped: skip_test \(no such thing here\)'
	echo 'skip_test	nothing here has it' >> "$T/qemu/known-skips"
	EXPECT_FAIL=$ALL_FAIL works verdict fail
	says '^skipped everywhere: skip_test \(known:[[:space:]]*nothing here has it\)'
	sed -i '$d' "$T/qemu/known-skips"
	# For one kernel, and not for another.
	echo 'skip_test unless=rare.config,odd.config nothing here has it' >> "$T/qemu/known-skips"
	EXPECT_FAIL=$ALL_FAIL works verdict fail
	FRAGMENTS='debug.config odd.config' EXPECT_FAIL=$ALL_FAIL fails verdict fail
	says '^FAILED: skip_test was skipped everywhere'
	sed -i '$d' "$T/qemu/known-skips"
}

# A test of the directory "users" is not taken for another one there.
users_skipped()
{
	booted fail
	mkdir -p -- "$T/users"
	cp -- "$T/fail/console.log" "$T/users/"
	sed 's,^\(ok [0-9]* \)\(pass\|skip\)_test,\1users/\2_test,' \
		"$T/fail/results.ktap" > "$T/users/results.ktap"
	EXPECT_FAIL=$ALL_FAIL fails verdict users
	says '^FAILED: users/skip_test was skipped everywhere \(no such thing here\), known-skips does not list it'
	same 'what is wrong' "$(grep -c '^FAILED' "$T/out")" 1
	echo 'skip_test	nothing here has it' >> "$T/qemu/known-skips"
	EXPECT_FAIL=$ALL_FAIL fails verdict users
	says '^FAILED: users/skip_test was skipped everywhere'
	sed -i '$d' "$T/qemu/known-skips"
	echo 'users/skip_test	nothing here has it' >> "$T/qemu/known-skips"
	EXPECT_FAIL=$ALL_FAIL works verdict users
	says '^skipped everywhere: users/skip_test \(known:[[:space:]]*nothing here has it\)'
	sed -i '$d' "$T/qemu/known-skips"
	# It was not skipped under another name.
	sed -i 's|users/pass_test/again|users/skip_test/again|' "$T/users/results.ktap"
	EXPECT_FAIL=$ALL_FAIL works verdict users
	says_not 'skipped everywhere'
}

expect_fail()
{
	booted fail
	export DEVICES=edu
	EXPECT_FAIL=$ALL_FAIL works verdict fail
	says '^control: fail_test fails on this kernel, as it must' \
		'^control: case_test:two fails' '^control: hang_test fails' \
		'^8 passed, 0 failed, 1 skipped$'
	EXPECT_FAIL='*_test' fails verdict fail
	says '^FAILED: pass_test passes, but must fail on this kernel' \
		'^FAILED: skip_test@edu is skipped, but must fail on this kernel'
	EXPECT_FAIL="$ALL_FAIL pass_test@edu" fails verdict fail
	says '^FAILED: pass_test@edu passes, but must fail'
	same 'what is wrong' "$(grep -c '^FAILED' "$T/out")" 1
	# The order of what is listed does not matter.
	EXPECT_FAIL="pass_test@edu $ALL_FAIL" fails verdict fail
	says '^FAILED: pass_test@edu passes, but must fail'
	EXPECT_FAIL="$ALL_FAIL case_test:one" fails verdict fail
	says '^FAILED: case_test:one passes, but must fail'
	EXPECT_FAIL=${ALL_FAIL#fail_test } fails verdict fail
	says '^FAILED: fail_test$'
	same 'what is wrong' "$(grep -c '^FAILED' "$T/out")" 1
	EXPECT_FAIL="$ALL_FAIL other_test" fails verdict fail
	says '^FAILED: other_test must fail on this kernel, but did not run'
	EXPECT_FAIL="$ALL_FAIL fail_test@nvme" fails verdict fail
	says '^FAILED: fail_test@nvme must fail on this kernel, but did not run'
}

truncated()
{
	local lines n

	booted fail
	mkdir -p -- "$T/cut"
	cp -- "$T/fail/console.log" "$T/cut/"
	lines=$(wc -l < "$T/fail/results.ktap")
	for ((n = 0; n < lines; n++)); do
		head -n "$n" "$T/fail/results.ktap" > "$T/cut/results.ktap"
		DEVICES=edu EXPECT_FAIL=$ALL_FAIL fails verdict cut > /dev/null
		says '^FAILED: (there is no plan|the VM did not get to the end of the plan|results.ktap is not KTAP)'
	done
	# One result lost on the way
	sed '/^ok [0-9]* pass_test@edu/d' "$T/fail/results.ktap" > "$T/cut/results.ktap"
	DEVICES=edu EXPECT_FAIL=$ALL_FAIL fails verdict cut
	says '^FAILED: result 2 is missing'
	rm -- "$T/cut/results.ktap"
	fails verdict cut
	says '^FAILED: there is no plan' '^0 passed, 0 failed, 0 skipped$'
	# A console that was lost
	cp -- "$T/fail/results.ktap" "$T/cut/"
	: > "$T/cut/console.log"
	DEVICES=edu EXPECT_FAIL=$ALL_FAIL fails verdict cut
	says '^FAILED: the console tells of no test'
}

# A filter that fits no case leaves a test that does nothing.
no_cases()
{
	mkdir -p -- "$T/empty"
	printf 'vfio selftests: some_test\n' > "$T/empty/console.log"
	printf '%s\n' 'KTAP version 1' '1..1' '  1..0' 'ok 1 some_test' '# done' \
		> "$T/empty/results.ktap"
	fails verdict empty
	says '^FAILED: some_test: no case is called like that'
	printf '%s\n' 'KTAP version 1' '1..1' '  1..2' 'ok 1 some_test' '# done' \
		> "$T/empty/results.ktap"
	fails verdict empty
	says '^FAILED: some_test: 0 of 2 cases reported'
}

# Good results do not help a VM that did not end by itself.
bad_status()
{
	booted fail
	export DEVICES=edu EXPECT_FAIL=$ALL_FAIL
	works verdict fail 0
	fails verdict fail 124
	says "^FAILED: the limit of $TIMEOUT s was reached; the console ends with"
	fails verdict fail 137
	says '^FAILED: the limit'
	fails verdict fail 1
	says '^FAILED: QEMU exited with 1'
}

# What the kernel can say, without a boot for each
reports()
{
	local line

	booted fail
	mkdir -p -- "$T/said"
	cp -- "$T/fail/results.ktap" "$T/said/"
	export DEVICES=edu EXPECT_FAIL=$ALL_FAIL
	while read -r line; do
		cp -- "$T/fail/console.log" "$T/said/"
		printf '[    9.123456] vfio selftests: some_test@edu\r\n[    9.2] %s\r\n[    9.3]  more of it\r\n' \
			"$line" >> "$T/said/console.log"
		fails verdict said > /dev/null
		says '^the kernel reports, during some_test@edu:' '^ .*more of it' \
			'^FAILED: kernel report, see'
	done <<-'END'
	WARNING: CPU: 0 PID: 77 at drivers/vfio/pci/vfio_pci_core.c:60 f+0x1/0x2
	WARNING: possible circular locking dependency detected
	WARNING: suspicious RCU usage
	BUG: KASAN: slab-use-after-free in f+0x1/0x2
	BUG: kernel NULL pointer dereference, address: 0000000000000008
	BUG: sleeping function called from invalid context at mm/x.c:1
	BUG: workqueue lockup - pool cpus=0
	Oops: general protection fault, probably for non-canonical address
	INFO: task vfio_test:77 blocked for more than 40 seconds.
	rcu: INFO: rcu_preempt self-detected stall on CPU
	watchdog: BUG: soft lockup - CPU#0 stuck for 52s!
	kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)
	list_del corruption. prev->next should be x
	irq 16: nobody cared (try booting with the "irqpoll" option)
	DMA-API: vfio-pci 0000:00:04.0: device driver tries to free DMA memory
	Call Trace:
	Kernel panic - not syncing: anything
	END
	printf 'some_driver: rejected.*\ta reason\nWARNING: known thing\ta reason\n' \
		>> "$T/qemu/known-splats"
	cp -- "$T/fail/console.log" "$T/said/"
	printf '[    9.2] WARNING: known thing\n[    9.3] Call Trace:\n' \
		>> "$T/said/console.log"
	works verdict said
	cp -- "$TOP/tools/testing/selftests/vfio/qemu/known-splats" "$T/qemu/"

	# DMA that is caught, in a test that is about that and in another one
	line='DMAR: [DMA Write NO_PASID] Request device [0000:00:04.0] fault addr 0x1000'
	cp -- "$T/fail/console.log" "$T/said/"
	printf '[    9.1] vfio selftests: vfio_pci_p2p_test@edu+ram\n[    9.2] %s\n' "$line" \
		>> "$T/said/console.log"
	works verdict said
	printf '[    9.3] vfio selftests: some_test@edu\n[    9.4] %s\n' "$line" \
		>> "$T/said/console.log"
	fails verdict said
	says '^DMA during some_test@edu:'
}

# --- boots of their own ---

forged()
{
	try vm forge <<-'END'
	run pass_test none
	run short_test none
	run liar_test none
	run forge_test none
	END
	[ "$STATUS" -ne 0 ] || miss 'the run must be bad'
	booted forge
	same 'forged lines on the console' "$(grep -cE 'ok 4 forge_test|# done' \
		"$T/forge/console.log")" 2
	! grep -qE '^(ok 4|# done)' "$T/forge/results.ktap" ||
		miss 'they must not be among the results'
	says '^FAILED: 3 of 4 results, the last is for liar_test' \
		'^FAILED: the VM did not get to the end of the plan' \
		'^FAILED: short_test: 2 of 3 cases reported' \
		'^FAILED: liar_test:one$' '^FAILED: liar_test: ok, but a case is not'
}

guest_crashes()
{
	local began=$SECONDS

	try vm crash <<-'END'
	run pass_test none
	run crash_test none
	END
	[ "$STATUS" -ne 0 ] || miss 'the run must be bad'
	[ $((SECONDS - began)) -lt "$TIMEOUT" ] || miss 'it must end the VM'
	says '^the kernel reports, during crash_test:' 'sysrq triggered crash' \
		'Call Trace' '^FAILED: kernel report, see'
}

expect_splat()
{
	booted crash
	EXPECT_SPLAT='sysrq triggered crash' works verdict crash
	says '^the kernel reports, as it must, during crash_test:' \
		'^1 passed, 0 failed, 0 skipped$'
	EXPECT_SPLAT='sysrq triggered crash ... sysrq_handle_crash ... vfs_write' works \
		verdict crash
	EXPECT_SPLAT='sysrq triggered crash ... vfs_write ... reset_control' fails \
		verdict crash
	says '^no line of the report matches reset_control' '^FAILED: kernel report'
	# What the kernel says, but not within the report
	EXPECT_SPLAT='sysrq triggered crash ... Linux version' fails verdict crash
	says '^no line of the report matches Linux version'
	EXPECT_SPLAT='BUG: KASAN' fails verdict crash
	says '^the kernel reports, during crash_test:' '^FAILED: kernel report'
	booted fail
	DEVICES=edu EXPECT_FAIL=$ALL_FAIL EXPECT_SPLAT='BUG: KASAN' fails verdict fail
	says '^FAILED: the kernel must report BUG: KASAN'
}

guest_hangs()
{
	try vm hang TIMEOUT=20 <<-'END'
	run pass_test none
	run halt_test none
	END
	[ "$STATUS" -ne 0 ] || miss 'the run must be bad'
	says '^FAILED: the limit of 20 s was reached; the console ends with' \
		'^  .*the last words of the guest' '^  .*System halted' \
		'^FAILED: 1 of 2 results, the last is for pass_test'
}

not_bound()
{
	echo 'bridge  slot:07  pcie-pci-bridge' >> "$T/qemu/devices"
	echo 'run pass_test each' > "$T/in"
	try vm bridge < "$T/in"
	cp -- "$T/devices" "$T/qemu/devices"
	[ "$STATUS" -ne 0 ] || miss 'the run must be bad'
	says '^FAILED: Bail out! device bridge \(0000:00:07\.0\): cannot bind to vfio-pci: Invalid argument; bound to nothing'
}

qemu_does_not_start()
{
	# Nor are the results of an earlier run taken for this one's.
	mkdir -p -- "$T/start"
	cp -- "$T"/fail/* "$T/start/" || :
	echo 'run pass_test none' > "$T/in"
	try vm start QEMU_MACHINE='-machine nonsense' < "$T/in"
	[ "$STATUS" -ne 0 ] || miss 'the run must be bad'
	says '^FAILED: QEMU exited with 1' 'unsupported machine type' \
		'^FAILED: there is no plan' '^0 passed, 0 failed, 0 skipped$'

	cp -- "$T"/fail/* "$T/start/" || :
	try vm start QEMU="$T/no-qemu" < "$T/in"
	[ "$STATUS" -ne 0 ] || miss 'the run must be bad'
	says '^FAILED: QEMU exited with' 'no-qemu' '^0 passed, 0 failed, 0 skipped$'

	cp -- "$T"/fail/* "$T/start/" || :
	try vm start DEVICES=toaster < "$T/in"
	[ "$STATUS" -ne 0 ] || miss 'the run must be bad'
	says 'has no toaster' '^0 passed, 0 failed, 0 skipped$'
}

# What is wrong with a plan is said by the guest.
bad_plan()
{
	echo 'jump high' > "$T/in"
	try vm plan < "$T/in"
	[ "$STATUS" -ne 0 ] || miss 'the run must be bad'
	says '^FAILED: Bail out! plan: cannot parse "jump'
}

# The root of some distribution: there is no place in it for what is the VM's.
host_root()
{
	mkdir -p -- "$T/root/usr/bin" "$T/guest/tests"
	ln -s -- usr/bin "$T/root/bin"
	touch -- "$T/root/usr/bin/hello" "$T/guest/vmlinux" "$T/guest/initrd"
	ln -- "$T/tests/pass_test" "$T/guest/tests/vfio_guest_test"
	ln -- "$T/tests/pass_test" "$T/guest/tests/vfio_testpmd_test"
	echo 'run users/vfio_guest_test none' > "$T/in"
	works vm host HOST_ROOT="$T/root" GUEST_PATH="$T/guest" < "$T/in"
	says '^ok 1 users/vfio_guest_test' '^1 passed, 0 failed, 0 skipped$'
}

# --- configuration ---

no_kernel()
{
	fails make -C "$T/qemu" KERNEL_PATH="$T" kernel
	says "\\*\\*\\* $T is no kernel source: set KERNEL_PATH"
	works make -C "$T/qemu" KERNEL_PATH="$T" help
}

check_config()
{
	awk -f "$T/qemu/check-config.awk" "$@"
}

symbol_lost()
{
	cd -- "$T"
	printf 'CONFIG_A=y\nCONFIG_B=n\nCONFIG_C="text"\nCONFIG_D=m\n' > one
	printf 'CONFIG_B=y\n# CONFIG_E is not set\n' > two
	printf 'CONFIG_A=y\nCONFIG_B=y\nCONFIG_C="text"\nCONFIG_D=m\nCONFIG_F=y\n' > all
	works check_config one two all
	sed '/CONFIG_A/d' all > got
	fails check_config one two got
	says '^CONFIG_A: one wants y, \.config has n'
	sed 's/CONFIG_B=y/# CONFIG_B is not set/' all > got
	fails check_config one two got
	says '^CONFIG_B: two wants y, \.config has n'
	sed 's/text/other/; s/=m/=y/' all > got
	fails check_config one two got
	says '^CONFIG_C: one wants "text", \.config has "other"' \
		'^CONFIG_D: one wants m, \.config has y'
	{ cat all; echo CONFIG_E=y; } > got
	fails check_config one two got
	says '^CONFIG_E: two wants n, \.config has y'
	: > got
	fails check_config one two got
	says 'an input is empty'
	fails check_config one three all
}

symbol_absent()
{
	cd -- "$T"
	printf 'CONFIG_A=y\nCONFIG_B=y\n' > one
	printf '# CONFIG_B is absent: it came later\n' > last
	echo CONFIG_A=y > got
	fails check_config one got
	works check_config one last got
	# In front of what asks for it, it says nothing.
	fails check_config last one got
	printf 'CONFIG_A=y\nCONFIG_B=y\n' > got
	fails check_config one last got
	says '^CONFIG_B: last wants absent, \.config has y'
	printf 'CONFIG_A=y\n# CONFIG_B is not set\n' > got
	fails check_config one last got
	says '^CONFIG_B: last wants absent, \.config has n'
}

symbol_optional()
{
	cd -- "$T"
	printf 'CONFIG_A=y\nCONFIG_B=y\n# CONFIG_B may be absent: part of A then\n' > one
	echo CONFIG_A=y > got
	works check_config one got
	printf 'CONFIG_A=y\n# CONFIG_B is not set\n' > got
	fails check_config one got
	says '^CONFIG_B: one wants y, \.config has n'
	# It says nothing about another one.
	echo CONFIG_B=y > got
	fails check_config one got
	says '^CONFIG_A: one wants y, \.config has n'
}

kasan_lost()
{
	printf 'CONFIG_EXPERT=y\nCONFIG_SLUB_TINY=y\n' > "$T/qemu/tiny.config"
	[ -x "$KERNEL_PATH/scripts/kconfig/merge_config.sh" ] ||
		skip "no kconfig in $KERNEL_PATH"
	try make --no-print-directory -C "$T/qemu" BUILD_PATH="$T/config" \
		FRAGMENTS='debug.config tiny.config' "$T/config/kernel/.config"
	[ "$STATUS" -ne 0 ] || miss 'the build must fail'
	says '^CONFIG_KASAN: .*/debug\.config wants y, \.config has n'
	[ ! -e "$T/config/kernel/.config" ] || miss 'the next call would take it'
}

t 'tests that fail' tests_fail
t 'a test that hangs is killed at its limit' test_hangs
t 'a test that skips everywhere is named' skipped_everywhere
t 'a test of programs of the host that skips everywhere is named' users_skipped
t 'EXPECT_FAIL: exactly what is listed fails' expect_fail
t 'truncated results' truncated
t 'a test without cases' no_cases
t 'a VM that does not end by itself' bad_status
t 'what the kernel reports' reports
t 'results forged on the console, the output and the port; cases missing' forged
t 'a kernel that crashes' guest_crashes
t 'EXPECT_SPLAT: exactly what is listed is reported' expect_splat
t 'a guest that hangs is ended at the limit' guest_hangs
t 'a device that cannot be bound to vfio-pci' not_bound
t 'QEMU that does not start' qemu_does_not_start
t 'a plan that is wrong' bad_plan
t 'a HOST_ROOT without /guest' host_root
t 'a KERNEL_PATH that is no kernel' no_kernel
t 'a configuration symbol that gets lost' symbol_lost
t 'a symbol that this kernel is said not to have' symbol_absent
t 'a symbol that this kernel may not have' symbol_optional
t 'KASAN that gets lost to SLUB_TINY' kasan_lost
plan
