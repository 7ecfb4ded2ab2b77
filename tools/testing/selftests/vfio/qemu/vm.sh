#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Boot a kernel with the devices of the table.
#
# usage: vm.sh run|shell
#
# "run" writes what the guest reports to $RESULT_PATH/results.ktap, shows the
# progress on stdout and keeps $RESULT_PATH/console.log and qemu.log; whether
# the results are good is for verdict.sh to say.  "shell" gives a shell on the
# guest's console.
#
# inputs (environment, the Makefile has the defaults):
#   QEMU QEMU_MACHINE NR_CPUS MEMORY BAR_SIZE KERNEL_IMAGE INITRAMFS CONSOLE CMDLINE
#   DEVICE_TABLE DEVICES RESULT_PATH TIMEOUT SLOW V HOST_ROOT
# exit codes: 0 the VM ended by itself, 124 $TIMEOUT seconds were over, other
#   QEMU did not work

set -euo pipefail

mode=${1:-}
if [[ $mode != run && $mode != shell ]]; then
	sed -n 's/^# \{0,1\}//; 4,/^$/p' "$0"
	exit 1
fi

# First, so that nothing of an earlier run can be taken for this one's.
if [[ $mode == run ]]; then
	mkdir -p "$RESULT_PATH"
	rm -f "$RESULT_PATH"/{results.ktap,console.log,qemu.log}
fi

args=()
table=

has_device() {
	grep -q "^name \"$1\"" <<< "$known"
}

wanted() {
	[[ $DEVICES == all || " $DEVICES " == *" $1 "* ]]
}

# A window of twice the largest BAR: SeaBIOS 1.16.3 does not align it as such a BAR
# wants it, and Linux finds room only then.  And QEMU 7.2 does not report the link
# of a faster port as active after a reset.
add_port() {
	# shellcheck disable=SC2076 # a literal match is meant
	[[ " ${args[*]} " =~ " pcie-root-port,id=port$1," ]] && return

	local port=pcie-root-port,id=port$1,addr=0x$1,chassis=$((16#$1))
	args+=(-device "$port,x-speed=5,pref64-reserve=8G")
}

add_device() {
	local name=$1 where=$2 device=$3 place slot
	shift 3

	if ! wanted "$name"; then
		table+="$name=absent,"
		return
	fi
	if ! has_device "${device%%,*}"; then
		echo "$QEMU has no ${device%%,*}: the VM goes without $name" >&2
		table+="$name=absent,"
		return
	fi

	slot=${where#*:}
	slot=${slot%/noreset}
	case $where in
	slot:*)		place=addr=0x$slot ;;
	port:*.*)	place=bus=port${slot%.*},addr=0x0.${slot#*.},multifunction=on ;;
	port:*)		place=bus=port$slot ;;
	*)		echo "$DEVICE_TABLE: $name: $where?" >&2; exit 1 ;;
	esac
	[[ $where == port:* ]] && add_port "${slot%.*}"

	args+=("$@" -device "$device,$place")
	table+="$name=$where,"
}

# Not piped into grep: that would end early and fail the pipe.
known=$("$QEMU" -device help)

while read -r name where device more; do
	[[ -z $name || $name == \#* ]] && continue
	# shellcheck disable=SC2086 # "more" is a list of arguments
	add_device "$name" "$where" "$device" ${more//\{BAR_SIZE\}/$BAR_SIZE}
done < "$DEVICE_TABLE"

for name in $DEVICES; do
	if [[ $name != all && ",$table" != *",$name="* ]]; then
		echo "$DEVICE_TABLE has no $name" >&2
		exit 1
	fi
done

append="console=$CONSOLE panic=-1 $CMDLINE"
append+=" VM_SLOW=$SLOW VM_DEVICES=${table%,}"

# QEMU_MACHINE comes first: an IOMMU serves only the devices that follow it.
# shellcheck disable=SC2206 # a list of arguments
args=(
	-nodefaults -no-reboot -display none -monitor none
	$QEMU_MACHINE -smp "$NR_CPUS" -m "$MEMORY"
	-kernel "$KERNEL_IMAGE" -initrd "$INITRAMFS"
	"${args[@]}"
)

if [[ -n ${HOST_ROOT:-} ]]; then
	[[ -d $HOST_ROOT ]] || { echo "HOST_ROOT: there is no $HOST_ROOT" >&2; exit 1; }
	args+=(
		-fsdev "local,id=host,path=$HOST_ROOT,security_model=none,readonly=on"
		-device "virtio-9p-pci,fsdev=host,mount_tag=host"
	)
fi

if [[ $mode == shell ]]; then
	exec "$QEMU" "${args[@]}" -append "$append VM_SHELL=1" \
		-serial mon:stdio
fi

args+=(
	-serial "file:$RESULT_PATH/console.log"
	-chardev "file,id=results,path=/dev/stdout"
	-device virtio-serial-pci
	-device "virtserialport,name=results,chardev=results"
	-append "$append"
)

status=0
timeout --foreground -k 5 "$TIMEOUT" "$QEMU" "${args[@]}" \
	< /dev/null 2> "$RESULT_PATH/qemu.log" |
	tee "$RESULT_PATH/results.ktap" |
	awk -v all="${V:-0}" \
		'all > 0 || /^(not )?ok |^Bail out!|^# (kernel|device) / ||
		 /BAR [0-9]+ mapped at/ || /^ +[0-9.]+ ms  (owner|client) / {
			print; fflush()
		 }' ||
	status=${PIPESTATUS[0]}
exit "$status"
