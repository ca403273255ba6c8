// SPDX-License-Identifier: GPL-2.0-only
/*
 * hold-vm: keep a VM that never runs, until hold-vm is killed.
 * hold-vm FILE | stats-fd | vcpu-stats-fd: close the VM's own fd, and keep a FILE of the VM's
 * directory in debugfs, or the stats fd of the VM or of a vCPU.
 *
 * The first VM of a host and the last one switch a static key in the scheduler.  That patches
 * code that all CPUs run, and QEMU's TCG does not always survive the patching.  While hold-vm
 * keeps its VM, no other VM is the first or the last.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/kvm.h>

int main(int argc, char *argv[])
{
	int kvm = open("/dev/kvm", O_RDWR), vm, vcpu, file;
	char path[256];

	if (kvm < 0 || (vm = ioctl(kvm, KVM_CREATE_VM, 0)) < 0) {
		perror("hold-vm");
		return 1;
	}
	if (argc > 1) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/%s", getpid(), vm, argv[1]);
		if (!strcmp(argv[1], "stats-fd")) {
			file = ioctl(vm, KVM_GET_STATS_FD, NULL);
		} else if (!strcmp(argv[1], "vcpu-stats-fd")) {
			vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
			file = ioctl(vcpu, KVM_GET_STATS_FD, NULL);
			close(vcpu);
		} else {
			file = open(path, O_RDONLY);
		}
		if (file < 0) {
			perror(argv[1]);
			return 1;
		}
		close(vm);
		close(kvm);
	}
	return pause();
}
