/* Attention over blocks of keys and values (paged, arXiv:2309.06180) with grouped query heads (arXiv:2305.13245).

   Keys of a block lie by channel, (K, BLOCK), values by token, (BLOCK, K): scores of a block's tokens are then sums of vectors,
   and so are mixed values; nothing is summed across a vector but the maximum and the total. Every query goes through its own
   tokens in order of their place, so that how a prompt was cut and what shares the step changes no bit.
   A query's scores are kept whole: 4 bytes a token of its sequence. Leaves out softcap and sinks. */

#include "native.h"

#define QUERIES 8 /* at once against a block */

/* Values of a cell, by format: K padded to vectors. Scales (INT8 only): one a token, of its key and of its value. */
static int64_t padded(const Model *model) { return up(model->head, 16); }

int64_t cell_bytes(int64_t head, int64_t format) {
    int64_t values = 2 * BLOCK * up(head, 16);
    return format == FP32 ? 4 * values : format == BF16 ? 2 * values : values + 2 * BLOCK * 4;
}

INLINE char *cell(const Model *model, const Memory *memory, int64_t block, int64_t layer, int64_t group) {
    return memory->data + ((block * model->layers + layer) * model->groups + group) * cell_bytes(model->head, memory->format);
}

INLINE int64_t value_bytes(int64_t format) { return format == FP32 ? 4 : format == BF16 ? 2 : 1; }

INLINE vf values(const char *at, int64_t index, const int format) {
    if (format == FP32) return load((const float *)at + index);
    vi wide;
    if (format == BF16) {
        typedef uint16_t narrow __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
        wide = __builtin_convertvector(*(const narrow *)(at + 2 * index), vi);
        return (vf)(wide << 16);
    }
    return __builtin_convertvector(from_bytes(at + index), vf);
}

/* Write one token's key and value (K) into its slot of a cell. */
static void keep(const Model *model, int64_t format, char *at, int64_t slot, const float *key, const float *value) {
    const int64_t width = model->head, values = BLOCK * padded(model);
    float inverse[2] = {1, 1};
    if (format == INT8) {
        float *scales = (float *)(at + 2 * values);
        for (int part = 0; part < 2; part++) {
            const float *x = part ? value : key;
            float most = 0;
            for (int64_t i = 0; i < width; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
            scales[part * BLOCK + slot] = most / 127.0f;
            inverse[part] = most > 0 ? 127.0f / most : 0.0f;
        }
    }
    for (int part = 0; part < 2; part++)
        for (int64_t i = 0; i < width; i++) {
            float x = part ? value[i] : key[i];
            int64_t to = part ? values + slot * padded(model) + i : i * BLOCK + slot;
            if (format == FP32) ((float *)at)[to] = x;
            else if (format == BF16) ((uint16_t *)at)[to] = to_bf16(x);
            else ((int8_t *)at)[to] = (int8_t)rintf(x * inverse[part]);
        }
}

typedef struct {
    const float *query;
    float *out;
    int64_t low, high; /* first and last token that it sees */
} Query;

/* Scores against blocks first..last, then e^score and its total, then mixed values. scores: QUERIES rows of `reach`. */
INLINE void mix(const Model *model, const Memory *memory, const int32_t *blocks, int64_t layer, int64_t group, const Query *q,
                const int rows, float *scores, int64_t first, int64_t last, const int format) {
    const int64_t width = model->head, reach = (last - first + 1) * BLOCK, half = value_bytes(format) * BLOCK * padded(model);
    vf most[QUERIES], total[QUERIES];
    for (int r = 0; r < rows; r++) most[r] = all(-INFINITY), total[r] = (vf){};
    vi lane;
    for (int i = 0; i < LANES; i++) lane[i] = i;
    for (int64_t b = first; b <= last; b++) {
        const char *keys = cell(model, memory, blocks[b], layer, group);
        const char *ahead = cell(model, memory, blocks[b < last ? b + 1 : b], layer, group); /* cells lie far apart */
        for (int64_t j = 0; j < BLOCK; j += LANES) {
            vf score[QUERIES];
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) score[r] = (vf){};
            for (int64_t i = 0; i < width; i++) {
                vf key = values(keys, i * BLOCK + j, format);
                if (rows == 1) __builtin_prefetch(ahead + i * BLOCK * value_bytes(format));
#pragma GCC unroll 8
                for (int r = 0; r < rows; r++) score[r] += q[r].query[i] * key;
            }
            vi place = lane + (int32_t)(b * BLOCK + j);
            for (int r = 0; r < rows; r++) {
                vf v = score[r];
                if (format == INT8) v *= load((const float *)(keys + 2 * half) + j);
                v = pick((place >= (int32_t)q[r].low) & (place <= (int32_t)q[r].high), v, all(-INFINITY));
                store(scores + r * reach + (b - first) * BLOCK + j, v);
                most[r] = pick(v > most[r], v, most[r]);
            }
        }
    }
    for (int r = 0; r < rows; r++) {
        float top = most[r][0];
        for (int i = 1; i < LANES; i++) top = most[r][i] > top ? most[r][i] : top;
        float *row = scores + r * reach;
        for (int64_t s = 0; s < reach; s += LANES) {
            vf share = power(load(row + s) - top);
            total[r] += share;
            if (format == INT8) {
                int64_t b = first + s / BLOCK;
                share *= load((const float *)(cell(model, memory, blocks[b], layer, group) + 2 * half) + BLOCK + s % BLOCK);
            }
            store(row + s, share);
        }
    }
    int64_t ends = 0;
    for (int r = 0; r < rows; r++) ends = q[r].high > ends ? q[r].high : ends;
    const int64_t wide = padded(model);
    for (int64_t i = 0; i < width; i += 2 * LANES) {
        vf mixed[QUERIES][2];
        const int64_t next = i + LANES < wide ? i + LANES : i;
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) mixed[r][0] = mixed[r][1] = (vf){};
        for (int64_t b = first; b <= last; b++) {
            const char *rest = cell(model, memory, blocks[b], layer, group) + half;
            const char *ahead = cell(model, memory, blocks[b < last ? b + 1 : b], layer, group) + half;
            const int64_t tokens = ends - b * BLOCK + 1 < BLOCK ? ends - b * BLOCK + 1 : BLOCK; /* behind: not written yet */
            const float *share = scores + (b - first) * BLOCK;
            for (int64_t t = 0; t < tokens; t++) {
                if (rows == 1) {
                    __builtin_prefetch(ahead + (t * wide + i) * value_bytes(format));
                    __builtin_prefetch(ahead + (t * wide + next) * value_bytes(format));
                }
                vf left = values(rest, t * wide + i, format), right = values(rest, t * wide + next, format);
#pragma GCC unroll 8
                for (int r = 0; r < rows; r++) {
                    mixed[r][0] += share[r * reach + t] * left;
                    mixed[r][1] += share[r * reach + t] * right;
                }
            }
        }
        for (int r = 0; r < rows; r++) {
            float whole = 1.0f / sum(total[r]), spare[2 * LANES];
            store(spare, mixed[r][0] * whole);
            store(spare + LANES, mixed[r][1] * whole);
            int64_t left = width - i < 2 * LANES ? width - i : 2 * LANES;
            memcpy(q[r].out + i, spare, 4 * left);
        }
    }
}

#define SWITCH(format)                                                                                                 \
    switch (rows) {                                                                                                    \
        case 1: mix(model, memory, blocks, layer, group, q, 1, scores, first, last, format); break;                    \
        case 2: mix(model, memory, blocks, layer, group, q, 2, scores, first, last, format); break;                    \
        case 4: mix(model, memory, blocks, layer, group, q, 4, scores, first, last, format); break;                    \
        default: mix(model, memory, blocks, layer, group, q, 8, scores, first, last, format);                          \
    }

static void some(const Model *model, const Memory *memory, const int32_t *blocks, int64_t layer, int64_t group, const Query *q,
                 int rows, float *scores) {
    int64_t low = q[0].low, high = q[0].high;
    for (int r = 1; r < rows; r++) {
        low = q[r].low < low ? q[r].low : low;
        high = q[r].high > high ? q[r].high : high;
    }
    const int64_t first = low / BLOCK, last = high / BLOCK;
    if (memory->format == FP32) SWITCH(FP32)
    else if (memory->format == BF16) SWITCH(BF16)
    else SWITCH(INT8)
}

/* Keys and values of the step's rows [from, to) go to the memory; qkv rows are (H + 2G) K wide, turned already. */
void keep_row(const Model *model, const Memory *memory, const Piece *piece, int64_t layer, int64_t token, int64_t group,
              const float *qkv_row) {
    int64_t at = piece->start + token;
    const float *key = qkv_row + (model->heads + group) * model->head, *value = key + model->groups * model->head;
    keep(model, memory->format, cell(model, memory, piece->blocks[at / BLOCK], layer, group), at % BLOCK, key, value);
}

/* mixed (N, H K) of all rows. An item is QUERIES queries that share a key head: heads of a group, tokens of a piece. */
void attend(Team *team, const Model *model, const Memory *memory, const Step *step, int64_t layer, const float *qkv, float *mixed,
            float *scores) {
    const int64_t share = model->heads / model->groups, width = model->head, window = model->layer[layer].window;
    const int64_t ld = (model->heads + 2 * model->groups) * width;
    int64_t items = 0, before = 0, p = 0;
    for (int64_t i = 0; i < step->pieces; i++) items += model->groups * (up(step->piece[i].tokens * share, QUERIES) / QUERIES);
    SHARED(team, items, 1) { /* items only grow, so the piece of the last one is where to look for the next */
        const Piece *piece = step->piece + p;
        int64_t rows = piece->tokens * share, parts = up(rows, QUERIES) / QUERIES;
        while (item >= before + model->groups * parts) {
            before += model->groups * parts;
            piece = step->piece + ++p;
            rows = piece->tokens * share, parts = up(rows, QUERIES) / QUERIES;
        }
        int64_t group = (item - before) % model->groups, from = (item - before) / model->groups * QUERIES;
        Query q[QUERIES];
        int count = rows - from < QUERIES ? (int)(rows - from) : QUERIES;
        for (int r = 0; r < count; r++) {
            int64_t token = (from + r) / share, head = group * share + (from + r) % share, high = piece->start + token;
            q[r].query = qkv + (piece->first + token) * ld + head * width;
            q[r].out = mixed + (piece->first + token) * model->heads * width + head * width;
            q[r].high = high;
            q[r].low = window && high >= window ? high - window + 1 : 0;
        }
        for (int r = 0, n; r < count; r += n) {
            n = count - r >= 8 ? 8 : count - r >= 4 ? 4 : count - r >= 2 ? 2 : 1;
            some(model, memory, piece->blocks, layer, group, q + r, n, scores);
        }
    }
}
