// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading the working set of a VM.  Each SPTE that points to a page table has an Accessed bit that
 * the CPU sets and nobody else uses.  A pass does not look below a table that is old, so it costs
 * what the guest touched, and not what the guest has.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/debugfs.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/rculist.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/srcu.h>
#include <linux/uaccess.h>

#include "mmu.h"
#include "mmu_internal.h"
#include "tdp_walk.h"
#include "working_set.h"

bool kvm_working_set_was_read __read_mostly;

/* KVM makes no pass if the memslots map more than so many times the memory of the host. */
#define WORKING_SET_OVERCOMMIT	32

/* A step of a pass: at most so many page tables of leaves are read in one RCU section. */
#define WORKING_SET_TABLES	16
/* ... or the rmaps of so many gfns under one kvm->srcu. */
#define WORKING_SET_RMAP_GFNS	(WORKING_SET_TABLES * SPTE_ENT_PER_PAGE)

/* One past the last gfn that an SPTE of @level maps, if it maps @gfn, too. */
static gfn_t working_set_end(gfn_t gfn, int level)
{
	return gfn_round_for_level(gfn, level) + KVM_PAGES_PER_HPAGE(level);
}

/*
 * Returns true if the page table that @sptep points to may have young leaves.  Makes it old before
 * the caller reads its SPTEs, if the caller reads all of them: an access that comes later makes the
 * table young again, and one that came before is found below.
 *
 * The cmpxchg expects the page table that the caller will read.  It pairs with
 * kvm_working_set_tables_young(), with zaps, and with the CPU, which sets Accessed.  If it fails,
 * another task removed the table, or it stays young, which costs one more look at its SPTEs.
 */
static bool working_set_open_table(u64 *sptep, u64 spte, bool whole)
{
	if (!(spte & shadow_accessed_mask))
		return false;

	if (whole)
		try_cmpxchg64(sptep, &spte, spte & ~shadow_accessed_mask);
	return true;
}

/*
 * Read SPTEs of a page table, from *@sptep, which maps @gfn, to that of @end - 1.  Most of them are
 * old, even in a table that is young.  In the TDP MMU, all leaves have A/D bits if any has, so what
 * has neither bit is old, or no leaf.
 */
static void working_set_read_table(u64 *sptep, gfn_t gfn, gfn_t end,
				   struct kvm_working_set_slot *slot)
{
	const u64 touched = shadow_accessed_mask | SPTE_YOUNG_WORKING_SET;
	unsigned long bit = gfn - kvm_working_set_first_bit(slot);
	unsigned long last = end - kvm_working_set_first_bit(slot);
	unsigned long nr = 0;

	while (bit < last) {
		unsigned long next = min(last, round_up(bit + 1, BITS_PER_LONG));
		unsigned long *word = slot->touched + BIT_WORD(bit);
		unsigned long mask = BIT_MASK(bit);
		unsigned long young = 0;

		for (; bit < next; bit++, sptep++, mask <<= 1) {
			/*
			 * Other tasks and the CPU may write the SPTE meanwhile.  Read it once, so
			 * that the cmpxchg expects what was checked.
			 */
			u64 spte = READ_ONCE(*sptep);

			if ((spte & touched) && working_set_read_leaf(sptep, spte, PG_LEVEL_4K))
				young |= mask;
		}
		*word |= young;
		nr += hweight_long(young);
	}
	slot->bytes[0] += nr * PAGE_SIZE;
}

/*
 * Read what one root has for the gfns [gfn, end), which are in one page table of @level, and whole
 * SPTEs of it unless @level is 4K.  Returns true if a table of the next lower level is young: @end
 * is just one SPTE away then.
 */
static bool working_set_read_root(struct kvm_mmu_page *root, int root_level, gfn_t gfn, gfn_t end,
				  int level, struct kvm_working_set_slot *slot)
{
	/* A part of a page table: its SPTE is the one to ask. */
	const int table = max_t(int, level, PG_LEVEL_2M);
	const bool whole = level >= PG_LEVEL_2M;
	bool young = false;
	u64 *sptep, spte;
	int at = root_level;

	/* A root with fewer levels than the others maps fewer gfns. */
	if (gfn >= KVM_PAGES_PER_HPAGE(root_level + 1))
		return false;

	sptep = tdp_find_spte(root->spt, gfn, &at, table, &spte);
	for (;;) {
		if (is_shadow_present_pte(spte) && is_last_spte(spte, at)) {
			if (working_set_read_leaf(sptep, spte, at))
				working_set_found(slot, gfn, at);
		} else if (is_shadow_present_pte(spte) &&
			   working_set_open_table(sptep, spte, whole)) {
			if (at > PG_LEVEL_2M) {
				young = true;
			} else {
				u64 *spt = __va(spte_to_pfn(spte) << PAGE_SHIFT);

				spt += SPTE_INDEX(gfn << PAGE_SHIFT, PG_LEVEL_4K);
				working_set_read_table(spt, gfn, min(end, working_set_end(gfn, at)),
						       slot);
			}
		}

		gfn = working_set_end(gfn, at);
		if (gfn >= end)
			return young;

		/* The next one is beside it, or a level further up there is none or a huge one. */
		sptep++;
		spte = READ_ONCE(*sptep);
	}
}

/* As working_set_read_root(), for all valid roots of the address space. */
static bool working_set_read_roots(struct kvm *kvm, gfn_t gfn, gfn_t end, int level,
				   struct kvm_working_set_slot *slot)
{
	union kvm_mmu_page_role role;
	struct kvm_mmu_page *root;
	bool young = false;

	rcu_read_lock();
	list_for_each_entry_rcu(root, &kvm->arch.tdp_mmu_roots, link) {
		if (tdp_root_is_valid(root, slot->as_id, &role))
			young |= working_set_read_root(root, role.level, gfn, end, level, slot);
	}
	rcu_read_unlock();

	return young;
}

/* The highest level at which @gfn begins an SPTE that maps no gfn from @end on, or 4K. */
static int working_set_level(gfn_t gfn, gfn_t end)
{
	int level;

	for (level = PG_LEVEL_512G; level > PG_LEVEL_4K; level--) {
		if (gfn == gfn_round_for_level(gfn, level) && working_set_end(gfn, level) <= end)
			break;
	}

	return level;
}

/* The end of the step at @gfn. */
static gfn_t working_set_step_end(gfn_t gfn, gfn_t end, int level)
{
	switch (level) {
	case PG_LEVEL_4K:
		return min(end, working_set_end(gfn, PG_LEVEL_2M));
	case PG_LEVEL_2M:
		end = min(end, gfn + WORKING_SET_TABLES * KVM_PAGES_PER_HPAGE(PG_LEVEL_2M));
		end = min(end, working_set_end(gfn, PG_LEVEL_1G));
		return gfn_round_for_level(end, PG_LEVEL_2M);
	default:
		return working_set_end(gfn, level);
	}
}

/*
 * Let others run.  Returns an error if the task is to die, or the VM: its last user waits for all
 * operations on its files.
 */
static int working_set_give_way(struct kvm *kvm)
{
	cond_resched();
	if (!refcount_read(&kvm->users_count))
		return -ENODEV;
	return fatal_signal_pending(current) ? -EINTR : 0;
}

/*
 * Each step looks at one SPTE of each root, or a few page tables of leaves, and is an RCU section
 * of its own.  A table of an upper level that is young in any root is opened in all roots before
 * any table below it is, and then all of them are looked at, so no root has to be found again.
 */
static int working_set_read_tdp(struct kvm *kvm, struct kvm_working_set_slot *slot)
{
	const gfn_t end = slot->base_gfn + slot->npages;
	gfn_t gfn, next, opened = 0;
	int level, r;

	for (gfn = slot->base_gfn; gfn < end; gfn = next) {
		level = working_set_level(gfn, end);
		next = working_set_step_end(gfn, end, level);
		while (working_set_read_roots(kvm, gfn, next, level, slot)) {
			opened = max(opened, next);
			level--;
			next = working_set_step_end(gfn, end, level);
		}

		/* What is young below a table that is old now would not be found again. */
		r = working_set_give_way(kvm);
		if (r == -ENODEV || (r && next >= opened))
			return r;
	}

	return 0;
}

/* What nested guests touched, whose page tables KVM shadows, or all guests without the TDP MMU. */
static int working_set_read_rmaps(struct kvm *kvm, struct kvm_working_set_slot *slot)
{
	const gfn_t end = slot->base_gfn + slot->npages;
	const struct kvm_memory_slot *memslot;
	gfn_t gfn, next;
	int idx, r;

	if (!kvm_memslots_have_rmaps(kvm))
		return 0;

	for (gfn = slot->base_gfn; gfn < end; gfn = next) {
		next = min(end, gfn + WORKING_SET_RMAP_GFNS);

		/* Not for long: a change of the memslots waits for kvm->srcu. */
		idx = srcu_read_lock(&kvm->srcu);
		memslot = id_to_memslot(__kvm_memslots(kvm, slot->as_id), slot->id);
		if (!memslot || memslot->base_gfn != slot->base_gfn ||
		    memslot->npages != slot->npages ||
		    !kvm_age_read_rmaps(kvm, memslot, gfn, next, slot))
			next = end;
		srcu_read_unlock(&kvm->srcu, idx);

		r = working_set_give_way(kvm);
		if (r)
			return r;
	}

	return 0;
}

/**
 * kvm_working_set_read_slot - find what was touched in a memslot since the last read
 * @kvm: the VM
 * @slot: as_id, id, base_gfn and npages of the memslot, and where to add what is found
 *
 * A page is touched if an SPTE that maps it, in any root of the address space or in its rmap, was
 * young for the reader of the working set.  The SPTE is old for that reader then, and as young for
 * aging as it was.
 *
 * Context: may sleep.  kvm->srcu is held for a few thousand gfns at a time, and only while rmaps
 * are read.
 * Return: 0, or -EINTR if the task is being killed: what was found until then is in @slot, and
 * will not be found again; or -ENODEV if the VM has no user any more.
 */
int kvm_working_set_read_slot(struct kvm *kvm, struct kvm_working_set_slot *slot)
{
	int r = 0;

	WRITE_ONCE(kvm_working_set_was_read, true);
	/*
	 * From here on, who makes a leaf young sees the flag, or its leaf is seen here.  Pairs with
	 * the cmpxchg and the read of the flag before kvm_working_set_tables_young().
	 */
	smp_mb();

	if (tdp_mmu_enabled)
		r = working_set_read_tdp(kvm, slot);

	return r ?: working_set_read_rmaps(kvm, slot);
}

/*
 * Of a VM that was read.  Not in struct kvm: kvmgt.ko is built against that struct, and a larger
 * one would change the CRCs of KVM's exports.
 */
struct working_set_vm {
	struct list_head link;
	/* Not referred to: working_sets has it until it is destroyed. */
	struct kvm *kvm;
	/* One for working_sets, and one for each open file. */
	refcount_t refs;
	/* A file is open. */
	bool busy;
	/* When the last pass began, 0 for never.  The reader that set @busy owns it. */
	ktime_t last;
};

static LIST_HEAD(working_sets);
/* Protects the list, and @busy of its elements. */
static DEFINE_MUTEX(working_sets_lock);

/* A pass, for as long as the file that shows it is open. */
struct working_set {
	struct working_set_vm *vm;
	/* Since the pass before, or 0 if there was none. */
	u64 since_ns;
	u64 took_ns;
	/* Of working_set_bitmap: up to the end of the last memslot. */
	u64 nr_words;
	int nr_slots;
	struct kvm_working_set_slot slots[] __counted_by(nr_slots);
};

static void working_set_put_vm(struct working_set_vm *vm)
{
	if (refcount_dec_and_test(&vm->refs))
		kfree(vm);
}

/* The one reader of @kvm until working_set_release_vm(), or an error. */
static struct working_set_vm *working_set_claim_vm(struct kvm *kvm)
{
	struct working_set_vm *vm;

	guard(mutex)(&working_sets_lock);

	list_for_each_entry(vm, &working_sets, link) {
		if (vm->kvm != kvm)
			continue;
		if (vm->busy)
			return ERR_PTR(-EBUSY);
		goto claim;
	}

	vm = kzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	if (!vm)
		return ERR_PTR(-ENOMEM);
	vm->kvm = kvm;
	refcount_set(&vm->refs, 1);
	list_add(&vm->link, &working_sets);
claim:
	vm->busy = true;
	refcount_inc(&vm->refs);
	return vm;
}

static void working_set_release_vm(struct working_set_vm *vm)
{
	scoped_guard(mutex, &working_sets_lock)
		vm->busy = false;
	working_set_put_vm(vm);
}

/**
 * kvm_working_set_destroy_vm - forget a VM
 * @kvm: the VM, whose files in debugfs are gone
 *
 * Context: may sleep.  Whoever closes a file that is still open frees what it has.
 */
void kvm_working_set_destroy_vm(struct kvm *kvm)
{
	struct working_set_vm *vm;

	guard(mutex)(&working_sets_lock);

	list_for_each_entry(vm, &working_sets, link) {
		if (vm->kvm == kvm) {
			list_del(&vm->link);
			working_set_put_vm(vm);
			return;
		}
	}
}

static void working_set_free(struct working_set *ws)
{
	int i;

	for (i = 0; i < ws->nr_slots; i++)
		kvfree(ws->slots[i].touched);
	kvfree(ws);
}

static unsigned long working_set_bits(const struct kvm_working_set_slot *slot)
{
	return slot->base_gfn + slot->npages - kvm_working_set_first_bit(slot);
}

/* Words of working_set_bitmap that have gfns of @slot: from *@begin to the returned one - 1. */
static u64 working_set_words(const struct kvm_working_set_slot *slot, u64 *begin)
{
	*begin = kvm_working_set_first_bit(slot) / BITS_PER_LONG;
	return *begin + BITS_TO_LONGS(working_set_bits(slot));
}

static int working_set_compare(const void *a, const void *b)
{
	const struct kvm_working_set_slot *x = a, *y = b;

	if (x->base_gfn != y->base_gfn)
		return x->base_gfn < y->base_gfn ? -1 : 1;
	return x->as_id - y->as_id;
}

/* The memslots as they are now, by base_gfn, without bitmaps. */
static struct working_set *working_set_alloc_slots(struct kvm *kvm)
{
	struct kvm_memory_slot *memslot;
	struct kvm_memslot_iter iter;
	struct kvm_memslots *slots;
	struct working_set *ws;
	int as_id, bkt, idx, nr = 0;
	bool sorted = true;

	idx = srcu_read_lock(&kvm->srcu);

	for (as_id = 0; as_id < kvm_arch_nr_memslot_as_ids(kvm); as_id++) {
		/* The macro reads its argument again and again. */
		slots = __kvm_memslots(kvm, as_id);
		kvm_for_each_memslot(memslot, bkt, slots)
			nr++;
	}

	ws = kvzalloc(struct_size(ws, slots, nr), GFP_KERNEL_ACCOUNT);

	for (as_id = 0; ws && as_id < kvm_arch_nr_memslot_as_ids(kvm); as_id++) {
		slots = __kvm_memslots(kvm, as_id);
		/* By base_gfn.  Most VMs have all their memslots in the first address space. */
		kvm_for_each_memslot_in_gfn_range(&iter, slots, 0, ~0ull) {
			struct kvm_working_set_slot *slot;

			/* Memslots may have been added between the two reads of the pointer. */
			if (ws->nr_slots == nr)
				break;
			slot = &ws->slots[ws->nr_slots++];
			slot->as_id = as_id;
			slot->id = iter.slot->id;
			slot->base_gfn = iter.slot->base_gfn;
			slot->npages = iter.slot->npages;
			sorted &= slot == ws->slots || working_set_compare(slot - 1, slot) < 0;
		}
	}
	srcu_read_unlock(&kvm->srcu, idx);

	if (ws && !sorted)
		sort(ws->slots, ws->nr_slots, sizeof(ws->slots[0]), working_set_compare, NULL);
	return ws;
}

/* The memslots as they are now, nothing touched yet.  kvm->srcu is not held for large bitmaps. */
static struct working_set *working_set_alloc(struct kvm *kvm)
{
	struct working_set *ws = working_set_alloc_slots(kvm);
	u64 begin, pages = 0;
	int i;

	if (!ws)
		return ERR_PTR(-ENOMEM);

	for (i = 0; i < ws->nr_slots; i++) {
		pages += ws->slots[i].npages;
		ws->nr_words = max(ws->nr_words, working_set_words(&ws->slots[i], &begin));
	}
	/* Whoever creates a VM need not have what its memslots map, and the reader pays. */
	if (pages / WORKING_SET_OVERCOMMIT > totalram_pages()) {
		working_set_free(ws);
		return ERR_PTR(-E2BIG);
	}

	for (i = 0; i < ws->nr_slots; i++) {
		struct kvm_working_set_slot *slot = &ws->slots[i];

		slot->touched = kvcalloc(BITS_TO_LONGS(working_set_bits(slot)), sizeof(long),
					 GFP_KERNEL_ACCOUNT);
		if (!slot->touched) {
			working_set_free(ws);
			return ERR_PTR(-ENOMEM);
		}
	}

	return ws;
}

/* Claim the VM, and read it.  Returns what was touched, or an error. */
static struct working_set *working_set_read(struct kvm *kvm)
{
	ktime_t begin = ktime_get();
	struct working_set_vm *vm;
	struct working_set *ws;
	int i, r = 0;

	if (!shadow_young_ws_mask) {
		pr_info_ratelimited("no working set with npt=0, ept=0, eptad=0 or 32 bits\n");
		return ERR_PTR(-EOPNOTSUPP);
	}

	vm = working_set_claim_vm(kvm);
	if (IS_ERR(vm))
		return ERR_CAST(vm);

	ws = working_set_alloc(kvm);
	if (IS_ERR(ws)) {
		working_set_release_vm(vm);
		return ws;
	}

	ws->vm = vm;
	ws->since_ns = vm->last ? ktime_to_ns(ktime_sub(begin, vm->last)) : 0;
	for (i = 0; i < ws->nr_slots && !r; i++)
		r = kvm_working_set_read_slot(kvm, &ws->slots[i]);
	/*
	 * A CPU that holds an upper level in its paging-structure caches need not set Accessed in
	 * the table's SPTE again, for as long as it holds that: all below would look idle.
	 */
	kvm_flush_remote_tlbs(kvm);
	ws->took_ns = ktime_to_ns(ktime_sub(ktime_get(), begin));
	vm->last = begin;
	if (r) {
		working_set_free(ws);
		working_set_release_vm(vm);
		return ERR_PTR(r);
	}

	return ws;
}

static void working_set_close(struct working_set *ws)
{
	struct working_set_vm *vm = ws->vm;

	working_set_free(ws);
	working_set_release_vm(vm);
}

static int working_set_show(struct seq_file *m, void *unused)
{
	struct working_set *ws = m->private;
	int i, level;

	seq_printf(m, "since_ns %llu\n", ws->since_ns);
	seq_printf(m, "took_ns %llu\n", ws->took_ns);
	for (i = 0; i < ws->nr_slots; i++) {
		struct kvm_working_set_slot *slot = &ws->slots[i];
		u64 touched = bitmap_weight(slot->touched, working_set_bits(slot));

		seq_printf(m, "memslot %d.%d gpa %llx size %llu touched %llu", slot->as_id,
			   slot->id, slot->base_gfn << PAGE_SHIFT,
			   (u64)slot->npages << PAGE_SHIFT, touched << PAGE_SHIFT);
		for (level = PG_LEVEL_4K; level <= KVM_MAX_HUGEPAGE_LEVEL; level++)
			seq_printf(m, " by_%lluk %llu", (u64)KVM_HPAGE_SIZE(level) >> 10,
				   slot->bytes[level - PG_LEVEL_4K]);
		seq_putc(m, '\n');
	}

	return 0;
}

static int working_set_open(struct inode *inode, struct file *file)
{
	struct working_set *ws = working_set_read(inode->i_private);
	int r;

	if (IS_ERR(ws))
		return PTR_ERR(ws);

	r = single_open(file, working_set_show, ws);
	if (r)
		working_set_close(ws);
	return r;
}

static int working_set_release(struct inode *inode, struct file *file)
{
	struct seq_file *m = file->private_data;

	working_set_close(m->private);
	return single_release(inode, file);
}

static const struct file_operations working_set_fops = {
	.owner = THIS_MODULE,
	.open = working_set_open,
	.read = seq_read,
	.llseek = seq_lseek,
	.release = working_set_release,
};

static int working_set_bitmap_open(struct inode *inode, struct file *file)
{
	struct working_set *ws = working_set_read(inode->i_private);

	if (IS_ERR(ws))
		return PTR_ERR(ws);

	file->private_data = ws;
	return 0;
}

static int working_set_bitmap_release(struct inode *inode, struct file *file)
{
	working_set_close(file->private_data);
	return 0;
}

/* Where a word at or after @offset begins that has gfns of a memslot, or, for @hole, has none. */
static loff_t working_set_bitmap_seek(const struct working_set *ws, loff_t offset, bool hole)
{
	u64 word = offset / sizeof(long), begin, end;
	int i;

	for (i = 0; i < ws->nr_slots; i++) {
		end = working_set_words(&ws->slots[i], &begin);
		if (end <= word)
			continue;
		if (!hole)
			return max_t(loff_t, offset, begin * sizeof(long));
		/* Those of two address spaces may overlap, but none that follows begins earlier. */
		if (begin > word)
			break;
		word = end;
	}

	return max_t(loff_t, offset, word * sizeof(long));
}

static loff_t working_set_bitmap_llseek(struct file *file, loff_t offset, int whence)
{
	const struct working_set *ws = file->private_data;
	loff_t size = ws->nr_words * sizeof(long);

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return fixed_size_llseek(file, offset, whence, size);
	if (offset < 0 || offset >= size)
		return -ENXIO;
	return vfs_setpos(file, working_set_bitmap_seek(ws, offset, whence == SEEK_HOLE), size);
}

/* The touched pages of all memslots that have gfns for words [first, first + nr). */
static void working_set_bitmap_fill(const struct working_set *ws, unsigned long *words, u64 first,
				    unsigned long nr)
{
	int i;

	memset(words, 0, nr * sizeof(long));
	for (i = 0; i < ws->nr_slots; i++) {
		const struct kvm_working_set_slot *slot = &ws->slots[i];
		u64 begin, end = working_set_words(slot, &begin);
		u64 word;

		if (begin >= first + nr)
			break;
		for (word = max(first, begin); word < min(first + nr, end); word++)
			words[word - first] |= slot->touched[word - begin];
	}
}

static ssize_t working_set_bitmap_read(struct file *file, char __user *buf, size_t count,
				       loff_t *ppos)
{
	const struct working_set *ws = file->private_data;
	loff_t size = ws->nr_words * sizeof(long);
	unsigned long *words;
	ssize_t done = 0;

	if (*ppos % sizeof(long) || count % sizeof(long))
		return -EINVAL;

	words = (unsigned long *)__get_free_page(GFP_KERNEL);
	if (!words)
		return -ENOMEM;

	while (count && *ppos < size) {
		size_t part = min3(count, (size_t)PAGE_SIZE, (size_t)(size - *ppos));

		working_set_bitmap_fill(ws, words, *ppos / sizeof(long), part / sizeof(long));
		if (copy_to_user(buf + done, words, part)) {
			done = done ?: -EFAULT;
			break;
		}
		done += part;
		count -= part;
		*ppos += part;
		cond_resched();
	}

	free_page((unsigned long)words);
	return done;
}

static const struct file_operations working_set_bitmap_fops = {
	.owner = THIS_MODULE,
	.open = working_set_bitmap_open,
	.read = working_set_bitmap_read,
	.llseek = working_set_bitmap_llseek,
	.release = working_set_bitmap_release,
};

/**
 * kvm_working_set_create_debugfs - create a VM's files working_set and working_set_bitmap
 * @kvm: the VM; the files hold no reference to it
 * @dir: its directory, which is removed before kvm_working_set_destroy_vm()
 *
 * Context: may sleep.  Errors are ignored, as debugfs asks its users to do.
 */
void kvm_working_set_create_debugfs(struct kvm *kvm, struct dentry *dir)
{
	debugfs_create_file("working_set", 0400, dir, kvm, &working_set_fops);
	debugfs_create_file("working_set_bitmap", 0400, dir, kvm, &working_set_bitmap_fops);
}
