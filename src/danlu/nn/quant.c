/* The search of quant.py for 4-bit scales, a group at a time in registers; the definition is `_search_plain` there. */

#include "kernels.h"



static inline float as_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u;
    memcpy(&x, &bits, 4);
    return x;
}

static inline float bounded(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

/* Try one scale, fitted anew to the codes that it gives where asked; keep it where it loses less. */
static void attempt(const float *w, const float *share, int64_t n, float scale, float zero, float low, float high, int refit,
                    float *least, float *kept_scale, float *kept_zero) {
    if (fabsf(scale) < 1e-30f) scale = 1e-30f;
    if (refit) {
        float across = 0, along = 0, inverse = 1.0f / scale;
        PRAGMA(omp simd reduction(+ : across, along))
        for (int64_t i = 0; i < n; i++) {
            float code = bounded(rintf(w[i] * inverse) + zero, low, high) - zero;
            across += w[i] * code * share[i];
            along += code * code * share[i];
        }
        if (along > 0) scale = across / along;
        if (fabsf(scale) < 1e-30f) scale = 1e-30f;
    }
    scale = as_bf16(scale);
    float lost = 0, inverse = 1.0f / scale;
    PRAGMA(omp simd reduction(+ : lost))
    for (int64_t i = 0; i < n; i++) {
        float off = scale * (bounded(rintf(w[i] * inverse) + zero, low, high) - zero) - w[i];
        lost += off * off * share[i];
    }
    if (lost < *least) *least = lost, *kept_scale = scale, *kept_zero = zero;
}

/* codes (O, I), scales bf16 (O, G), zeros (O, G); share (I): what an error of each input weighs; clips: shares of the range. */
void search_int4(const float *weight, const float *share, const float *clips, int8_t *codes, uint16_t *scales, int8_t *zeros,
                 int64_t outputs, int64_t inputs, int64_t group, int64_t symmetric, int64_t tries, int64_t refit, int threads) {
    int64_t groups = (inputs + group - 1) / group;
    float low = symmetric ? -8.0f : 0.0f, high = symmetric ? 7.0f : 15.0f;
    TEAM {
        ROWS(outputs) {
            for (int64_t g = 0; g < groups; g++) {
                int64_t at = g * group, n = inputs - at < group ? inputs - at : group;
                const float *w = weight + row * inputs + at;
                float least = INFINITY, top = 0, bottom = 0, scale = 1e-30f, zero = 0;
                for (int64_t i = 0; i < n; i++) top = w[i] > top ? w[i] : top, bottom = w[i] < bottom ? w[i] : bottom;
                float furthest = top >= -bottom ? top : bottom, most = fabsf(furthest);
                for (int64_t k = 0; k < tries; k++) {
                    if (symmetric) {
                        attempt(w, share + at, n, clips[k] * furthest / -8, 0, low, high, refit, &least, &scale, &zero);
                        attempt(w, share + at, n, clips[k] * most / 7, 0, low, high, refit, &least, &scale, &zero);
                    } else {
                        float step = clips[k] * (top - bottom) / 15;
                        step = step < 1e-30f ? 1e-30f : step;
                        attempt(w, share + at, n, step, bounded(rintf(-clips[k] * bottom / step), 0, 15), low, high, refit,
                                &least, &scale, &zero);
                    }
                }
                float inverse = 1.0f / scale;
                for (int64_t i = 0; i < n; i++)
                    codes[row * inputs + at + i] = (int8_t)bounded(rintf(w[i] * inverse) + zero, low, high);
                uint32_t bits;
                memcpy(&bits, &scale, 4);
                scales[row * groups + g] = (uint16_t)(bits >> 16);
                zeros[row * groups + g] = (int8_t)zero;
            }
        }
    }
}
