/* Offsets of the start-of-day structure: xen/include/public/arch-x86/hvm/start_info.h. */
#ifndef START_INFO_H
#define START_INFO_H

enum {
    START_MAGIC = 0x336ec578,
    START_VERSION = 4,
    START_FLAGS = 8,
    START_MODULE_COUNT = 12,
    START_MODULES = 16,
    START_CMDLINE = 24,
    START_RSDP = 32,
    START_MEMMAP = 40, /* this and the rest from version 1 on */
    START_MEMMAP_COUNT = 48,
    START_RESERVED = 52,

    MODULE_BYTES = 32,
    MODULE_SIZE = 8,
    MODULE_CMDLINE = 16,
    MODULE_RESERVED = 24,

    MEMMAP_BYTES = 24,
    MEMMAP_SIZE = 8,
    MEMMAP_TYPE = 16,
    MEMMAP_RESERVED = 20,
    MEMMAP_TYPE_RAM = 1,
};

#endif
