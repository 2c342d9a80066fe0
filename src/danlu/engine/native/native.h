/* What the native step's files share: vectors, the team of threads, and how a model, its memory and a step are described.
   matrix.py and layout.py fill these structs, field by field in the same order. N rows (tokens) of a step, O outputs, I inputs. */

#ifndef DANLU_NATIVE
#define DANLU_NATIVE

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#define ROWS 14 /* rows of a block of the float kernels: 2 x 14 sums, 2 weights and one spare fill 32 registers */
#elif defined(__AVX2__)
#define LANES 8
#define ROWS 3
#else
#define LANES 4
#define ROWS 3
#endif
#define PANEL 32 /* outputs that lie side by side in a packed matrix */
#define BLOCK 16 /* tokens of a block of the memory */
#define INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef float vf_at __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t vi_at __attribute__((vector_size(4 * LANES), aligned(1), may_alias));
INLINE vf load(const float *x) { return *(const vf_at *)x; }
INLINE void store(float *x, vf v) { *(vf_at *)x = v; }
INLINE vf all(float x) { return x - (vf){}; }
INLINE vf pick(vi mask, vf yes, vf no) { return (vf)(((vi)yes & mask) | ((vi)no & ~mask)); }
INLINE float sum(vf v) {
    float total = 0;
    for (int i = 0; i < LANES; i++) total += v[i];
    return total;
}
/* Between vectors of int32 and bytes; the compiler takes detours of its own. */
INLINE vi from_bytes(const void *at) {
#if LANES == 16
    return (vi)_mm512_cvtepi8_epi32(_mm_loadu_si128(at));
#elif LANES == 8
    return (vi)_mm256_cvtepi8_epi32(_mm_loadl_epi64(at));
#else
    vi wide;
    for (int i = 0; i < LANES; i++) wide[i] = ((const int8_t *)at)[i];
    return wide;
#endif
}
INLINE void to_bytes(int8_t *at, vi wide) {
#if LANES == 16
    _mm_storeu_si128((__m128i *)at, _mm512_cvtepi32_epi8((__m512i)wide));
#else
    for (int i = 0; i < LANES; i++) at[i] = (int8_t)wide[i];
#endif
}
INLINE int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

INLINE float from_bf16(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, 4);
    return x;
}
INLINE uint16_t to_bf16(float x) { /* to nearest, ties to even */
    uint32_t wide;
    memcpy(&wide, &x, 4);
    return x != x ? 0x7fc0 : (uint16_t)((wide + 0x7fff + ((wide >> 16) & 1)) >> 16);
}

/* e^x to two units in the last place (Cody-Waite reduction, degree 6); exactly 0 below -87. */
INLINE vf power(vf x) {
    vi gone = x < -87.0f;
    x = pick(x > 88.0f, all(88.0f), x);
    x = pick(gone, all(-87.0f), x);
    vf n = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* to the nearest integer */
    vf r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vf p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    vi bits = (__builtin_convertvector(n, vi) + 127) << 23;
    return pick(gone, (vf){}, p * (vf)bits);
}

/* ---- a matrix, packed: format, sizes, and panels of PANEL outputs one after another ---- */

enum { FP32, BF16, INT8, INT4 };
typedef struct {
    int64_t format, outputs, inputs, group, zeros; /* zeros: whether 4-bit codes have zeros of their own */
    const void *data;
    const float *bias; /* (O) or none */
} Matrix;

int64_t matrix_bytes(const Matrix *m);          /* of the packed data */
int64_t row_bytes(const Matrix *m);             /* of one row of inputs, prepared for it */
void prepare(const Matrix *m, const float *x, void *row);
void unpack_row(const Matrix *m, int64_t output, float *x); /* one output's weights, in float */

/* ---- a model ---- */

typedef struct {
    Matrix qkv, out, gate_up, down; /* gate above up; q, k, v one above another */
    const float *norm, *norm_mlp, *norm_q, *norm_k, *cosine, *sine; /* norms of heads: none where the family has none */
    int64_t window;                                                 /* 0: everything */
} Layer;

typedef struct {
    int64_t layers, width, heads, groups, head, half, inner, gelu, context; /* half: planes of a head that turn */
    float eps, scale, embed_scale, pad;
    Matrix embed, lm_head;
    const float *norm;
    const Layer *layer;
} Model;

/* ---- its memory: blocks of (layer, key head, [keys (head, BLOCK), values (BLOCK, head), scales]) ---- */

typedef struct {
    int64_t format, blocks; /* FP32, BF16, INT8 */
    char *data;
} Memory;

int64_t cell_bytes(int64_t head, int64_t format); /* of one layer and key head in a block */

/* ---- one step ---- */

typedef struct {
    const float *down, *up; /* (rank, I), and (rank, O) so that outputs lie side by side; none: this projection has none */
    int64_t rank;
    float scale, pad;
} Lora;
enum { LORA_Q, LORA_K, LORA_V, LORA_OUT, LORA_GATE, LORA_UP, LORA_DOWN, LORAS };

typedef struct {
    int64_t first, tokens, start; /* rows of the step; place of the first in its sequence */
    const int32_t *blocks;
    const Lora *adapter; /* (layers, LORAS) or none */
} Piece;

typedef struct {
    int64_t rows, pieces, wanted, longest; /* longest: most tokens that any piece looks back over */
    int64_t rank;                          /* the largest of any adapter; 0: none */
    const int64_t *ids, *want;             /* (N), (wanted): rows whose logits are wanted */
    const Piece *piece;
    float *logits;                         /* (wanted, V) */
    int8_t *fault;                         /* (N), zero at first: rows in which something is no number */
    char *scratch;
} Step;

/* ---- the team ---- */

typedef struct {
    int32_t threads, arrived, epoch;
    int64_t next; /* work of this phase given out so far */
} Team;

void meet(Team *team); /* all threads have come here; the next phase starts with no work given out */
/* Another `share` of n pieces of work: from the returned one to *end; n: none are left. */
INLINE int64_t take(Team *team, int64_t n, int64_t share, int64_t *end) {
    int64_t at = __atomic_fetch_add(&team->next, share, __ATOMIC_RELAXED);
    *end = at + share < n ? at + share : n;
    return at < n ? at : n;
}
#define SHARED(team, n, share)                                                                                         \
    for (int64_t end_, from_ = take(team, n, share, &end_); from_ < (n); from_ = take(team, n, share, &end_))         \
        for (int64_t item = from_; item < end_; item++)

/* y (N, ld) = or += rows (prepared) times the matrix; the team shares the panels. */
void multiply(Team *team, const Matrix *m, const char *rows, int64_t n, float *y, int64_t ld, int add);
void attend(Team *team, const Model *model, const Memory *memory, const Step *step, int64_t layer, const float *qkv, float *mixed,
            float *scores);

#endif
