/* qemu-user TCG plugin: how often each block of guest instructions runs between two marks.
 *
 *   gcc -shared -fPIC -O2 -o count_blocks.so count_blocks.c
 *   qemu-aarch64 -plugin count_blocks.so,out=FILE ...
 *
 * The guest marks a place by getpriority(MARK, LABEL), a system call that fails and does nothing.
 * At each mark the blocks that ran since the last one are written to FILE and set to zero:
 *
 *   mark LABEL
 *   ADDRESS RUNS INSTRUCTIONS...        in hexadecimal, RUNS in decimal
 *
 * Counts are exact for a guest of one thread: a block is left early only by a signal.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Debian ships no qemu-plugin.h; these are the declarations of version 1 (qemu 4.2 to 8.1). */
#define EXPORT __attribute__((visibility("default")))
typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern void qemu_plugin_register_vcpu_tb_trans_cb(
    plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(
    struct qemu_plugin_tb *, int operation, void *counter, uint64_t step);
extern void qemu_plugin_register_vcpu_syscall_cb(
    plugin_id, void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                        uint64_t, uint64_t, uint64_t, uint64_t));
EXPORT int qemu_plugin_version = 1;

enum { ADD_U64 = 0, SYS_GETPRIORITY = 141, MARK = 0x50524F42 };

struct block {
    struct block *next;
    uint64_t runs, address;
    size_t size;
    uint32_t words[];
};

static struct block *blocks;
static FILE *out;

static void on_translation(plugin_id id, struct qemu_plugin_tb *tb)
{
    size_t size = qemu_plugin_tb_n_insns(tb);
    struct block *b = calloc(1, sizeof *b + size * sizeof b->words[0]);

    (void)id;
    if (b == NULL) {
        abort();
    }
    b->address = qemu_plugin_tb_vaddr(tb);
    b->size = size;
    for (size_t i = 0; i < size; i++) {
        memcpy(&b->words[i], qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), 4);
    }
    b->next = blocks;
    blocks = b;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &b->runs, 1);
}

static void write_blocks(uint64_t label)
{
    fprintf(out, "mark %" PRIu64 "\n", label);
    for (struct block *b = blocks; b != NULL; b = b->next) {
        if (b->runs == 0) {
            continue;
        }
        fprintf(out, "%" PRIx64 " %" PRIu64, b->address, b->runs);
        for (size_t i = 0; i < b->size; i++) {
            fprintf(out, " %08" PRIx32, b->words[i]);
        }
        fputc('\n', out);
        b->runs = 0;
    }
    fflush(out);
}

static void on_syscall(plugin_id id, unsigned cpu, int64_t number, uint64_t which, uint64_t who,
                       uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7,
                       uint64_t a8)
{
    (void)id, (void)cpu, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number == SYS_GETPRIORITY && which == MARK) {
        write_blocks(who);
    }
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0) {
        fprintf(stderr, "count_blocks: say out=FILE\n");
        return -1;
    }
    out = fopen(argv[0] + 4, "w");
    if (out == NULL) {
        perror(argv[0] + 4);
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    return 0;
}
