/* Products of rows with packed matrices. Every sum runs over the inputs in one order, whatever the number of rows: a row's
   results have the same bits alone, among others, and on any number of threads. That is why there is one kernel, a block of
   few rows times a panel of 32 outputs held in registers (GotoBLAS, doi:10.1145/1356052.1356053), and no splitting of inputs.

   fp32  panel (I, 32) floats.
   bf16  panel (I/2, 32, 2); rows rounded to bf16; products are exact and summed in float.
   int8  for each group of inputs: 32 scales (bf16), then (g/4, 32, 4) codes + 128. Rows: 8-bit codes with a scale a group.
   int4  the same with two codes a byte, the later four inputs in the high half, and 32 zeros (8 bits) where it has them.
   In the last two a group's sum of products of codes is exact, in integers; sums of groups are float, in order.
   Leaves out tiles of AMX, and int8 on ARM beyond what the compiler finds. */

#include "native.h"

#define PARTS (PANEL / LANES)
#define CODE_ROWS (LANES == 16 ? 6 : 2)

static int64_t group_bytes(const Matrix *m) {
    return 2 * PANEL + (m->zeros ? PANEL : 0) + m->group * PANEL / (m->format == INT4 ? 2 : 1);
}

static int64_t groups(const Matrix *m) { return up(m->inputs, m->group) / m->group; }

static int64_t panel_bytes(const Matrix *m) {
    if (m->format == FP32) return m->inputs * PANEL * 4;
    if (m->format == BF16) return up(m->inputs, 2) * PANEL * 2;
    return groups(m) * group_bytes(m);
}

int64_t matrix_bytes(const Matrix *m) { return up(m->outputs, PANEL) / PANEL * panel_bytes(m); }

int64_t row_bytes(const Matrix *m) {
    int64_t bytes = m->format == FP32 ? m->inputs * 4 : m->format == BF16 ? up(m->inputs, 2) * 2 : groups(m) * (m->group + 8);
    return (up(bytes, 64) / 64 | 1) * 64; /* odd lines: rows one below another do not share a set of the cache */
}

/* ---- rows of inputs ---- */

/* One group in 8 bits: its scale, and the sum of its codes. Whole vectors, then what is left. */
static float round_group(const float *x, int64_t width, int8_t *codes, int32_t *total) {
    vf tops = {};
    vi sums = {};
    float most = 0;
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) {
        vf size = (vf)((vi)load(x + i) & 0x7fffffff);
        tops = pick(size > tops, size, tops);
    }
    for (int j = 0; j < LANES; j++) most = tops[j] > most ? tops[j] : most;
    for (; i < width; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    float inverse = most > 0 ? 127.0f / most : 0.0f;
    *total = 0;
    for (i = 0; i + LANES <= width; i += LANES) {
        vi code = __builtin_convertvector((load(x + i) * inverse + 12582912.0f) - 12582912.0f, vi); /* to the nearest */
        to_bytes(codes + i, code);
        sums += code;
    }
    for (int j = 0; j < LANES; j++) *total += sums[j];
    for (; i < width; i++) *total += codes[i] = (int8_t)rintf(x[i] * inverse);
    return most / 127.0f;
}

/* Prepared rows of codes: scales (G) floats, sums (G) of codes, codes (G g). */
void prepare(const Matrix *m, const float *x, void *row) {
    if (m->format == FP32) {
        memcpy(row, x, 4 * m->inputs);
    } else if (m->format == BF16) {
        uint16_t *out = row;
        for (int64_t i = 0; i < m->inputs; i++) out[i] = to_bf16(x[i]);
        if (m->inputs & 1) out[m->inputs] = 0;
    } else {
        float *scales = row;
        int32_t *sums = (int32_t *)(scales + groups(m));
        int8_t *codes = (int8_t *)(sums + groups(m));
        for (int64_t g = 0, at = 0; g < groups(m); g++, at += m->group) {
            int64_t width = m->inputs - at < m->group ? m->inputs - at : m->group;
            scales[g] = round_group(x + at, width, codes + at, sums + g);
            memset(codes + at + width, 0, m->group - width);
        }
    }
}

/* ---- packing; reading back ---- */

void pack_fp32(const Matrix *m, const float *weight, float *data) {
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < up(m->outputs, PANEL) / PANEL; p++)
        for (int64_t i = 0; i < m->inputs; i++)
            for (int64_t o = 0; o < PANEL; o++) {
                int64_t output = p * PANEL + o;
                data[(p * m->inputs + i) * PANEL + o] = output < m->outputs ? weight[output * m->inputs + i] : 0;
            }
}

void pack_bf16(const Matrix *m, const float *weight, uint16_t *data) {
    int64_t even = up(m->inputs, 2);
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < up(m->outputs, PANEL) / PANEL; p++)
        for (int64_t i = 0; i < even; i++)
            for (int64_t o = 0; o < PANEL; o++) {
                int64_t output = p * PANEL + o;
                int inside = output < m->outputs && i < m->inputs;
                data[p * even * PANEL + (i / 2 * PANEL + o) * 2 + i % 2] = inside ? to_bf16(weight[output * m->inputs + i]) : 0;
            }
}

/* codes (O, I) as they are meant, scales bf16 (O, G), zeros (O, G) or none. */
void pack_codes(const Matrix *m, const int8_t *codes, const uint16_t *scales, const int8_t *zeros, uint8_t *data) {
    int64_t count = groups(m), shift = m->format == INT8 ? 128 : m->zeros ? 0 : 8;
    memset(data, 0, matrix_bytes(m));
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < up(m->outputs, PANEL) / PANEL; p++)
        for (int64_t g = 0; g < count; g++) {
            uint8_t *at = data + p * panel_bytes(m) + g * group_bytes(m);
            for (int64_t o = 0; o < PANEL && p * PANEL + o < m->outputs; o++) {
                int64_t output = p * PANEL + o;
                ((uint16_t *)at)[o] = scales[output * count + g];
                if (m->zeros) at[2 * PANEL + o] = (uint8_t)zeros[output * count + g];
                uint8_t *body = at + 2 * PANEL + (m->zeros ? PANEL : 0);
                for (int64_t i = 0; i < m->group && g * m->group + i < m->inputs; i++) {
                    uint8_t code = (uint8_t)(codes[output * m->inputs + g * m->group + i] + shift);
                    if (m->format == INT8) body[(i / 4 * PANEL + o) * 4 + i % 4] = code;
                    else body[(i / 8 * PANEL + o) * 4 + i % 4] |= i % 8 < 4 ? code : code << 4;
                }
            }
        }
}

void unpack_row(const Matrix *m, int64_t output, float *x) {
    const char *panel = (const char *)m->data + output / PANEL * panel_bytes(m);
    int64_t o = output % PANEL;
    if (m->format == FP32) {
        for (int64_t i = 0; i < m->inputs; i++) x[i] = ((const float *)panel)[i * PANEL + o];
    } else if (m->format == BF16) {
        for (int64_t i = 0; i < m->inputs; i++) x[i] = from_bf16(((const uint16_t *)panel)[(i / 2 * PANEL + o) * 2 + i % 2]);
    } else {
        for (int64_t i = 0; i < m->inputs; i++) {
            const uint8_t *at = (const uint8_t *)panel + i / m->group * group_bytes(m);
            const uint8_t *body = at + 2 * PANEL + (m->zeros ? PANEL : 0);
            int64_t k = i % m->group, zero = m->format == INT8 ? 128 : m->zeros ? at[2 * PANEL + o] : 8, code;
            if (m->format == INT8) code = body[(k / 4 * PANEL + o) * 4 + k % 4];
            else code = body[(k / 8 * PANEL + o) * 4 + k % 4] >> (k % 8 < 4 ? 0 : 4) & 15;
            x[i] = from_bf16(((const uint16_t *)at)[o]) * (float)(code - zero);
        }
    }
}

/* ---- the kernels: `rows` is a constant wherever they are inlined ---- */

typedef struct {
    const Matrix *m;
    const char *panel, *x; /* x: prepared rows, `stride` bytes apart */
    int64_t stride;
    float *y; /* (rows, ld), at the panel's first output */
    int64_t ld, outputs;
    const float *bias;
    int add;
} Block;

/* Sums (rows, PANEL) to where they belong. */
static __attribute__((noinline)) void finish(const Block *b, int rows, const float *sums) {
    for (int r = 0; r < rows; r++, sums += PANEL) {
        float *y = b->y + r * b->ld;
        for (int64_t o = 0; o < b->outputs; o++) {
            float v = sums[o] + (b->bias ? b->bias[o] : 0);
            y[o] = b->add ? y[o] + v : v;
        }
    }
}

#define FINISH                                                                                                         \
    float sums_[ROWS * PANEL];                                                                                         \
    _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++)                                                            \
        _Pragma("GCC unroll 8") for (int j = 0; j < PARTS; j++) store(sums_ + r * PANEL + j * LANES, total[r][j]);     \
    finish(b, rows, sums_);

INLINE void block_fp32(const Block *b, const int rows) {
    const float *w = (const float *)b->panel;
    const float *x[ROWS];
    vf total[ROWS][PARTS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        x[r] = (const float *)(b->x + r * b->stride);
#pragma GCC unroll 8
        for (int j = 0; j < PARTS; j++) total[r][j] = (vf){};
    }
    for (int64_t i = 0; i < b->m->inputs; i++, w += PANEL) {
        vf weight[PARTS];
#pragma GCC unroll 8
        for (int j = 0; j < PARTS; j++) weight[j] = load(w + j * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            vf v = all(x[r][i]);
#pragma GCC unroll 8
            for (int j = 0; j < PARTS; j++) total[r][j] += v * weight[j];
        }
    }
    FINISH
}

/* sum + products of pairs of bf16. */
INLINE vf dot2(vf sum, vi weights, int32_t pair) {
#if defined(__AVX512BF16__) && LANES == 16
    return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)weights, (__m512bh)_mm512_set1_epi32(pair));
#else
    vf low = (vf)(weights << 16), high = (vf)(weights & (int32_t)0xffff0000);
    sum += low * from_bf16((uint16_t)pair);
    return sum + high * from_bf16((uint16_t)((uint32_t)pair >> 16));
#endif
}

INLINE int32_t word(const char *at) {
    int32_t value;
    memcpy(&value, at, 4);
    return value;
}

INLINE void block_bf16(const Block *b, const int rows) {
    const char *w = b->panel;
    vf total[ROWS][PARTS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int j = 0; j < PARTS; j++) total[r][j] = (vf){};
    for (int64_t i = 0; i < up(b->m->inputs, 2) / 2; i++, w += PANEL * 4) {
        vi weight[PARTS];
#pragma GCC unroll 8
        for (int j = 0; j < PARTS; j++) weight[j] = *(const vi_at *)(w + j * LANES * 4);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
            for (int j = 0; j < PARTS; j++) total[r][j] = dot2(total[r][j], weight[j], word(b->x + r * b->stride + 4 * i));
    }
    FINISH
}

/* sum + products of four unsigned weights and four signed codes of a row, in integers, exactly. */
INLINE vi dot4(vi sum, vi weights, int32_t codes, const int bits) {
#if defined(__AVX512VNNI__) && LANES == 16
    return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)weights, _mm512_set1_epi32(codes));
#elif defined(__AVX512BW__) && LANES == 16
    __m512i w = (__m512i)weights, x = _mm512_set1_epi32(codes), one = _mm512_set1_epi16(1), two = _mm512_set1_epi16(2);
    if (bits == 4) return sum + (vi)_mm512_madd_epi16(_mm512_maddubs_epi16(w, x), one);
    __m512i half = _mm512_and_si512(_mm512_srli_epi16(w, 1), _mm512_set1_epi8(127)), odd = _mm512_and_si512(w, _mm512_set1_epi8(1));
    return sum + (vi)_mm512_madd_epi16(_mm512_maddubs_epi16(half, x), two) + (vi)_mm512_madd_epi16(_mm512_maddubs_epi16(odd, x), one);
#elif defined(__AVX2__) && LANES == 8
    __m256i w = (__m256i)weights, x = _mm256_set1_epi32(codes), one = _mm256_set1_epi16(1), two = _mm256_set1_epi16(2);
    if (bits == 4) return sum + (vi)_mm256_madd_epi16(_mm256_maddubs_epi16(w, x), one);
    __m256i half = _mm256_and_si256(_mm256_srli_epi16(w, 1), _mm256_set1_epi8(127)), odd = _mm256_and_si256(w, _mm256_set1_epi8(1));
    return sum + (vi)_mm256_madd_epi16(_mm256_maddubs_epi16(half, x), two) + (vi)_mm256_madd_epi16(_mm256_maddubs_epi16(odd, x), one);
#else
    for (int k = 0; k < 4; k++) sum += (weights >> (8 * k) & 255) * (int32_t)(int8_t)(codes >> (8 * k));
    return sum;
#endif
}

INLINE vf widened(const char *bf16) {
    typedef uint16_t narrow __attribute__((vector_size(2 * LANES), aligned(1), may_alias));
    return (vf)(__builtin_convertvector(*(const narrow *)bf16, vi) << 16);
}

INLINE void block_codes(const Block *b, const int rows, const int bits) {
    const Matrix *m = b->m;
    const char *at = b->panel;
    const int64_t count = groups(m), body = 2 * PANEL + (m->zeros ? PANEL : 0), step = group_bytes(m);
    vf total[CODE_ROWS][PARTS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int j = 0; j < PARTS; j++) total[r][j] = (vf){};
    for (int64_t g = 0; g < count; g++, at += step) {
        const char *w = at + body, *x = b->x + 8 * count + g * m->group;
        vi sums[CODE_ROWS][PARTS];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            int32_t codes = ((const int32_t *)(b->x + r * b->stride))[count + g];
#pragma GCC unroll 8
            for (int j = 0; j < PARTS; j++) {
                sums[r][j] = (vi){} - (bits == 8 ? 128 : 8) * codes;
                if (bits == 4 && m->zeros) sums[r][j] = -codes * from_bytes(at + 2 * PANEL + j * LANES);
            }
        }
        for (int64_t i = 0; i < m->group; i += bits == 8 ? 4 : 8, w += PANEL * 4) {
            vi weight[PARTS];
#pragma GCC unroll 8
            for (int j = 0; j < PARTS; j++) weight[j] = *(const vi_at *)(w + j * LANES * 4);
            if (bits == 8) {
#pragma GCC unroll 8
                for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
                    for (int j = 0; j < PARTS; j++) sums[r][j] = dot4(sums[r][j], weight[j], word(x + r * b->stride + i), 8);
            } else {
#pragma GCC unroll 8
                for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
                    for (int j = 0; j < PARTS; j++)
                        sums[r][j] = dot4(sums[r][j], weight[j] & 0x0f0f0f0f, word(x + r * b->stride + i), 4);
#pragma GCC unroll 8
                for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
                    for (int j = 0; j < PARTS; j++)
                        sums[r][j] = dot4(sums[r][j], weight[j] >> 4 & 0x0f0f0f0f, word(x + r * b->stride + i + 4), 4);
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            float scale = ((const float *)(b->x + r * b->stride))[g];
#pragma GCC unroll 8
            for (int j = 0; j < PARTS; j++)
                total[r][j] += (scale * widened(at + 2 * j * LANES)) * __builtin_convertvector(sums[r][j], vf);
        }
    }
    FINISH
}

#define KERNEL(name, call)                                                                                             \
    static __attribute__((noinline)) void name(const Block *b, int rows) {                                             \
        switch (rows) {                                                                                                \
            CASE(1, call) CASE(2, call) CASE(3, call) MORE(call)                                                       \
        }                                                                                                              \
    }
#define CASE(n, call) case n: call(n); break;
#if ROWS == 14
#define MORE(call) CASE(4, call) CASE(5, call) CASE(6, call) CASE(7, call) CASE(8, call) CASE(9, call) CASE(10, call)     \
        CASE(11, call) CASE(12, call) CASE(13, call) CASE(14, call)
#else
#define MORE(call)
#endif
#define CALL_FP32(n) block_fp32(b, n)
#define CALL_BF16(n) block_bf16(b, n)
#define CALL_INT8(n) block_codes(b, n < CODE_ROWS ? n : CODE_ROWS, 8)
#define CALL_INT4(n) block_codes(b, n < CODE_ROWS ? n : CODE_ROWS, 4)
KERNEL(rows_fp32, CALL_FP32)
KERNEL(rows_bf16, CALL_BF16)
#undef MORE
#if ROWS == 14
#define MORE(call) CASE(4, call) CASE(5, call) CASE(6, call)
#else
#define MORE(call)
#endif
KERNEL(rows_int8, CALL_INT8)
KERNEL(rows_int4, CALL_INT4)

void multiply(Team *team, const Matrix *m, const char *rows, int64_t n, float *y, int64_t ld, int add) {
    const int64_t panels = up(m->outputs, PANEL) / PANEL, bytes = panel_bytes(m), stride = row_bytes(m);
    const int64_t most = m->format <= BF16 ? ROWS : CODE_ROWS, blocks = up(n, most) / most;
    const int64_t share = n < 64 && panels > 32 * team->threads ? 4 : 1; /* a thread that is late holds up little */
    SHARED(team, panels, share) {
        int64_t left = m->outputs - item * PANEL, o = item * PANEL;
        Block b = {m, (const char *)m->data + item * bytes, 0, stride, 0, ld, left < PANEL ? left : PANEL, m->bias ? m->bias + o : 0, add};
        for (int64_t k = 0; k < blocks; k++) { /* blocks of almost equal size */
            int64_t from = n * k / blocks, to = n * (k + 1) / blocks;
            b.x = rows + from * stride;
            b.y = y + from * ld + o;
            int count = (int)(to - from);
            switch (m->format) {
                case FP32: rows_fp32(&b, count); break;
                case BF16: rows_bf16(&b, count); break;
                case INT8: rows_int8(&b, count); break;
                default: rows_int4(&b, count);
            }
        }
    }
}
