// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keep a VM, that never runs, until killed.
 *
 * The first and the last VM switch a static key in the scheduler, that is, patch
 * code which all CPUs run, and QEMU's TCG does not always survive that.  With
 * this in the background, other VMs are neither.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/kvm.h>

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR);

	if (kvm < 0 || ioctl(kvm, KVM_CREATE_VM, 0) < 0) {
		perror("hold-vm");
		return 1;
	}
	return pause();
}
