/* The start-of-day structure, read where it lies: xen/include/public/arch-x86/hvm/start_info.h, or with
   START_INFO_DRAFT the first one, of 20 bytes, in docs/misc/hvmlite.markdown of Xen 4.7. No field tells
   them apart, so an image knows one of them. */
#ifndef START_INFO_H
#define START_INFO_H

#include "guest.h"

enum {
    START_MAGIC = 0x336ec578,
    MEMMAP_BYTES = 24,
    MEMMAP_TYPE_RAM = 1,
};

struct start_info {
    uint32_t version, flags, module_count;
    uint64_t modules, cmdline, rsdp;
    bool has_memmap;
    uint64_t memmap;
    uint32_t memmap_count, reserved;
};

struct module {
    uint64_t at, size, cmdline, reserved;
};

struct memmap_entry {
    uint64_t at, size;
    uint32_t type, reserved;
};

#ifdef START_INFO_DRAFT

enum { START_INFO_BYTES = 20, MODULE_BYTES = 8 };

static inline struct start_info read_start_info(uint32_t at)
{
    return (struct start_info){
        .flags = read32(at + 4),
        .cmdline = read32(at + 8),
        .module_count = read32(at + 12),
        .modules = read32(at + 16),
    };
}

static inline struct module read_module(uint32_t at)
{
    return (struct module){.at = read32(at), .size = read32(at + 4)};
}

#else

enum { START_INFO_BYTES = 40, MODULE_BYTES = 32 }; /* 56 from version 1 on */

static inline struct start_info read_start_info(uint32_t at)
{
    struct start_info info = {
        .version = read32(at + 4),
        .flags = read32(at + 8),
        .module_count = read32(at + 12),
        .modules = read64(at + 16),
        .cmdline = read64(at + 24),
        .rsdp = read64(at + 32),
    };
    info.has_memmap = info.version >= 1;
    if (info.has_memmap) {
        info.memmap = read64(at + 40);
        info.memmap_count = read32(at + 48);
        info.reserved = read32(at + 52);
    }
    return info;
}

static inline struct module read_module(uint32_t at)
{
    return (struct module){
        .at = read64(at),
        .size = read64(at + 8),
        .cmdline = read64(at + 16),
        .reserved = read64(at + 24),
    };
}

#endif

static inline struct memmap_entry read_memmap_entry(uint32_t at)
{
    return (struct memmap_entry){
        .at = read64(at),
        .size = read64(at + 8),
        .type = read32(at + 16),
        .reserved = read32(at + 20),
    };
}

#endif
