# SPDX-License-Identifier: GPL-2.0
"""The emulated Intel host: Bochs, which has EPT with and without A/D bits, and VMX in VMX.

Bochs has no way to load a kernel but from a disk, so each run boots a CD of its own. It
emulates one CPU; its clock counts instructions, so guests' time is not that of the host.
"""
import functools
import pathlib
import re
import shutil
import subprocess

PROGRAMS = ('bochs', 'xorriso')
BIOS = pathlib.Path('/usr/share/bochs/BIOS-bochs-latest')
VGA_BIOS = pathlib.Path('/usr/share/vgabios/vgabios.bin')
LOADER = {'isolinux.bin': pathlib.Path('/usr/lib/ISOLINUX/isolinux.bin'),
          'ldlinux.c32': pathlib.Path('/usr/lib/syslinux/modules/bios/ldlinux.c32')}
# Its clock is what it is, and not worth calibrating or watching.
APPEND = ('nokaslr tsc=reliable clocksource=tsc lpj=4000000 nowatchdog random.trust_cpu=on '
          'no_timer_check')

# Its CPUID has 8 cores in one leaf, and 1 in another.
FINE = re.compile(r'WARNING: .* at arch/x86/kernel/cpu/topology_common\.c:\d+ parse_legacy')

# The display, which nobody looks at, needs no terminal and no X, but listens on a port
# of the network: see outside_network().
CONFIG = '''\
config_interface: textconfig
display_library: rfb, options="timeout=0"
plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=1, parallel=0, serial=1
memory: guest={memory}, host={memory}
romimage: file={bios}, options=fastboot
vgaromimage: file={vga_bios}
cpu: model=corei7_haswell_4770, count=1, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs=1
pci: enabled=1, chipset=i440fx
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path="{folder}/host.iso", status=inserted
boot: cdrom
clock: sync=none, time0=utc
log: /dev/null
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
'''

ISOLINUX = '''\
DEFAULT linux
PROMPT 0
LABEL linux
 KERNEL /vmlinuz
 INITRD /initrd
 APPEND {append}
'''


class Error(Exception):
    """What kept the CD from being made: one line."""


def missing():
    """What has to be installed, or None."""
    for program in PROGRAMS:
        if not shutil.which(program):
            return program
    for path in (BIOS, VGA_BIOS, *LOADER.values()):
        if not path.exists():
            return str(path)
    return None


def megabytes(memory):
    """Of 512M, or 1G."""
    return int(memory[:-1]) << {'M': 0, 'G': 10}[memory[-1]]


def command(folder, image, initrd, memory, append, ports):
    """Make the CD and the configuration in folder; the command that boots them.

    ports are the files, or terminals, behind COM1 and so on, as Bochs names them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'isolinux.cfg').write_text(ISOLINUX.format(append=f'{append} {APPEND}'))
    backslash = '\\='
    tree = {'vmlinuz': image.resolve(), 'initrd': initrd, 'isolinux/isolinux.cfg': folder / 'isolinux.cfg',
            **{f'isolinux/{name}': path for name, path in LOADER.items()}}
    made = subprocess.run(
        ['xorriso', '-as', 'mkisofs', '-quiet', '-o', folder / 'host.iso',
         '-b', 'isolinux/isolinux.bin', '-c', 'isolinux/boot.cat', '-no-emul-boot',
         '-boot-load-size', '4', '-boot-info-table', '-graft-points',
         *(f'{name}={str(path).replace("=", backslash)}' for name, path in tree.items())],
        check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True)
    if made.returncode:
        said = [line for line in made.stderr.splitlines() if 'FAILURE' in line or 'FATAL' in line]
        raise Error(f'no CD for Bochs: {(said or ["xorriso failed"])[0]}; is there space?')
    config = CONFIG.format(memory=megabytes(memory), bios=BIOS, vga_bios=VGA_BIOS, folder=folder)
    config += ''.join(f'com{i}: enabled=1, {port}\n' for i, port in enumerate(ports, 1))
    (folder / 'bochsrc').write_text(config)
    # Debian's has a debugger, which waits for somebody to say "continue".
    (folder / 'continue').write_text('c\n')
    return [*outside_network(), 'bochs', '-q', '-f', str(folder / 'bochsrc'), '-rc', str(folder / 'continue')]


@functools.cache
def outside_network():
    """A prefix that keeps Bochs's display to itself, where that is allowed."""
    prefix = ['unshare', '--net', '--map-root-user']
    try:
        works = not subprocess.run([*prefix, 'true'], stderr=subprocess.DEVNULL,
                                   check=False).returncode
    except OSError:
        works = False
    return prefix if works else []


def last_words(output):
    """Why it ended, unless the guest turned the power off; the rest says nothing."""
    said = output.partition('Bochs is exiting with the following message:\n')[2]
    said = said.partition('\n=====')[0] if said else output
    return '' if 'ACPI control: soft power off' in said else said.strip()
