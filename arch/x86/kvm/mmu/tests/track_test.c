// SPDX-License-Identifier: GPL-2.0-only
/*
 * A tracker of guest writes, for selftests.  A task opens the file in debugfs, registers with a VM,
 * writes which pages to track, and reads the guest's writes.
 *
 * Each write() is one command, and returns the error of the function that it calls:
 *
 *   register FD      as a tracker of the VM with the file descriptor FD
 *   unregister       closing the file does so, too
 *   track GFN        one more time
 *   untrack GFN      one time less
 *   cost FD GFN N    ask N times whether GFN of a VM is tracked, and say how long it took
 *
 * Each read() gets the next line, if there is one:
 *
 *   write GPA BYTES VALUE
 *   remove GFN PAGES      a memslot is gone
 *   cost NANOSECONDS
 *   lost N                lines, as nobody read them in time
 *
 * Commands take numbers in any C notation.  Lines have GPA, GFN and VALUE in hexadecimal, and all
 * else in decimal.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kprobes.h>
#include <linux/ktime.h>
#include <linux/kvm_host.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#define NR_EVENTS	8192
#define MAX_LOOKS	1000000

struct event {
	enum { EVENT_WRITE, EVENT_REMOVE, EVENT_COST } type;
	int bytes;
	u64 where;
	u64 value;
};

/* One for each open file. */
struct tracker {
	struct kvm_page_track_notifier_node node;
	/* Protects @kvm, which is NULL unless registered. */
	struct mutex mutex;
	struct kvm *kvm;
	/* Protects what follows. */
	spinlock_t lock;
	unsigned int first, nr;
	unsigned long lost;
	struct event events[NR_EVENTS];
};

static struct dentry *file;

static void add_event(struct tracker *tracker, struct event event)
{
	spin_lock(&tracker->lock);
	if (tracker->nr == NR_EVENTS)
		tracker->lost++;
	else
		tracker->events[(tracker->first + tracker->nr++) % NR_EVENTS] = event;
	spin_unlock(&tracker->lock);
}

static void track_write(gpa_t gpa, const u8 *new, int bytes,
			struct kvm_page_track_notifier_node *node)
{
	struct event event = { EVENT_WRITE, bytes, gpa };

	memcpy(&event.value, new, min_t(int, bytes, sizeof(event.value)));
	add_event(container_of(node, struct tracker, node), event);
}

static void track_remove_region(gfn_t gfn, unsigned long nr_pages,
				struct kvm_page_track_notifier_node *node)
{
	struct event event = { EVENT_REMOVE, 0, gfn, nr_pages };

	add_event(container_of(node, struct tracker, node), event);
}

static int register_tracker(struct tracker *tracker, struct kvm *kvm)
{
	int r;

	if (tracker->kvm)
		return -EBUSY;

	tracker->node.track_write = track_write;
	tracker->node.track_remove_region = track_remove_region;
	r = kvm_page_track_register_notifier(kvm, &tracker->node);
	if (!r)
		tracker->kvm = kvm;
	return r;
}

static void unregister_tracker(struct tracker *tracker)
{
	if (tracker->kvm)
		kvm_page_track_unregister_notifier(tracker->kvm, &tracker->node);
	tracker->kvm = NULL;
}

#ifdef CONFIG_KPROBES
typedef bool (*is_tracked_t)(struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t gfn);

/* kvm_gfn_is_write_tracked() is not exported.  A kprobe finds its address on any kernel. */
static is_tracked_t find_is_tracked(void)
{
	struct kprobe probe = { .symbol_name = "kvm_gfn_is_write_tracked" };
	is_tracked_t fn;

	/*
	 * With IBT or CFI, the kprobe's address is behind the landing pad, so an indirect call
	 * would fault.
	 */
	if (cpu_feature_enabled(X86_FEATURE_IBT) || IS_ENABLED(CONFIG_CFI_CLANG))
		return NULL;
	if (register_kprobe(&probe))
		return NULL;
	fn = (is_tracked_t)probe.addr;
	unregister_kprobe(&probe);
	return fn;
}

static int measure_cost(struct tracker *tracker, struct kvm *kvm, u64 gfn, u64 n)
{
	is_tracked_t is_tracked = n <= MAX_LOOKS ? find_is_tracked() : NULL;
	struct event event = { EVENT_COST };
	struct kvm_memory_slot *slot;
	int idx, r = -EINVAL;
	u64 i;

	if (!is_tracked)
		return -EOPNOTSUPP;

	idx = srcu_read_lock(&kvm->srcu);
	slot = gfn_to_memslot(kvm, gfn);
	if (slot) {
		event.value = ktime_get_ns();
		for (i = 0; i < n; i++)
			is_tracked(kvm, slot, gfn);
		event.value = ktime_get_ns() - event.value;
		add_event(tracker, event);
		r = 0;
	}
	srcu_read_unlock(&kvm->srcu, idx);
	return r;
}
#else
static int measure_cost(struct tracker *tracker, struct kvm *kvm, u64 gfn, u64 n)
{
	return -EOPNOTSUPP;
}
#endif

/* Commands that name a VM, by a file descriptor of the caller's. */
static int run_vm_command(struct tracker *tracker, const char *command, int fd)
{
	struct file *vm __free(fput) = fget(fd);
	u64 gfn, n;

	if (!vm)
		return -EBADF;
	if (!file_is_kvm(vm))
		return -EINVAL;

	if (sscanf(command, "cost %*i %lli %lli", &gfn, &n) == 2)
		return measure_cost(tracker, vm->private_data, gfn, n);
	return register_tracker(tracker, vm->private_data);
}

static int run_command(struct tracker *tracker, const char *command)
{
	u64 gfn;
	int fd;

	guard(mutex)(&tracker->mutex);

	if (sscanf(command, "register %i", &fd) == 1 || sscanf(command, "cost %i", &fd) == 1)
		return run_vm_command(tracker, command, fd);
	/* All other commands need a registered tracker. */
	if (!tracker->kvm)
		return -ENOTCONN;

	if (sscanf(command, "track %lli", &gfn) == 1)
		return kvm_write_track_add_gfn(tracker->kvm, gfn);
	if (sscanf(command, "untrack %lli", &gfn) == 1)
		return kvm_write_track_remove_gfn(tracker->kvm, gfn);
	if (strcmp(command, "unregister"))
		return -EINVAL;
	unregister_tracker(tracker);
	return 0;
}

static int track_test_open(struct inode *inode, struct file *file)
{
	struct tracker *tracker = vzalloc(sizeof(*tracker));

	if (!tracker)
		return -ENOMEM;
	mutex_init(&tracker->mutex);
	spin_lock_init(&tracker->lock);
	file->private_data = tracker;
	return 0;
}

static int track_test_release(struct inode *inode, struct file *file)
{
	struct tracker *tracker = file->private_data;

	unregister_tracker(tracker);
	vfree(tracker);
	return 0;
}

static ssize_t track_test_write(struct file *file, const char __user *buf, size_t count,
				loff_t *ppos)
{
	/* On the stack, so that tests of failing allocations hit only KVM's. */
	char command[64];
	int r;

	if (count >= sizeof(command))
		return -EINVAL;
	if (copy_from_user(command, buf, count))
		return -EFAULT;
	command[count] = 0;

	r = run_command(file->private_data, strim(command));
	return r ? r : count;
}

static int print_event(const struct event *event, char *line, size_t size)
{
	switch (event->type) {
	case EVENT_WRITE:
		return scnprintf(line, size, "write 0x%llx %d 0x%llx\n", event->where,
				 event->bytes, event->value);
	case EVENT_REMOVE:
		return scnprintf(line, size, "remove 0x%llx %llu\n", event->where, event->value);
	default:
		return scnprintf(line, size, "cost %llu\n", event->value);
	}
}

static ssize_t track_test_read(struct file *file, char __user *buf, size_t count, loff_t *ppos)
{
	struct tracker *tracker = file->private_data;
	char line[80];
	size_t len;

	spin_lock(&tracker->lock);
	if (tracker->nr)
		len = print_event(&tracker->events[tracker->first], line, sizeof(line));
	else
		len = tracker->lost ? scnprintf(line, sizeof(line), "lost %lu\n",
						tracker->lost) : 0;

	/* If the buffer is too small, keep the event. */
	if (len > count || !len) {
		spin_unlock(&tracker->lock);
		return len ? -EINVAL : 0;
	}

	if (tracker->nr) {
		tracker->first = (tracker->first + 1) % NR_EVENTS;
		tracker->nr--;
	} else {
		tracker->lost = 0;
	}
	spin_unlock(&tracker->lock);
	return copy_to_user(buf, line, len) ? -EFAULT : len;
}

static const struct file_operations track_test_fops = {
	.owner		= THIS_MODULE,
	.open		= track_test_open,
	.write		= track_test_write,
	.read		= track_test_read,
	.release	= track_test_release,
};

static int __init track_test_init(void)
{
	file = debugfs_create_file("kvm_track_test", 0600, NULL, NULL, &track_test_fops);
	return PTR_ERR_OR_ZERO(file);
}

static void __exit track_test_exit(void)
{
	debugfs_remove(file);
}

module_init(track_test_init);
module_exit(track_test_exit);
MODULE_DESCRIPTION("A tracker of guest writes, for KVM's selftests");
MODULE_LICENSE("GPL");
