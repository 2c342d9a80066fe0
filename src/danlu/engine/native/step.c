/* A whole step of the Llama lineage: N tokens of many sequences, any mix of prompt pieces and single tokens, through all layers.

   All threads walk through the phases of a layer together (step_work) and meet between them; within a phase they take work as
   they become free. Definition: the torch modules of danlu.models; pieces and blocks as engine/work.py says. Adapters are
   low-rank additions (LoRA, arXiv:2106.09685) in float, each on the rows of its own sequences.
   Leaves out norms behind the parts (Gemma 2, 3), experts, and rotary tables that depend on a text's length. */

#include "native.h"
#include <sched.h>

int omp_get_thread_num(void);
int omp_get_num_threads(void);
void keep_row(const Model *, const Memory *, const Piece *, int64_t layer, int64_t token, int64_t group, const float *qkv_row);

void meet(Team *team) {
    int32_t epoch = __atomic_load_n(&team->epoch, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&team->arrived, 1, __ATOMIC_ACQ_REL) == team->threads) {
        team->arrived = 0;
        team->next = 0;
        __atomic_store_n(&team->epoch, epoch + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int tries = 0; __atomic_load_n(&team->epoch, __ATOMIC_ACQUIRE) == epoch; tries++) {
        if (tries > 4000) sched_yield(); /* another program may need this core, or our other thread may */
#if defined(__x86_64__)
        else __builtin_ia32_pause();
#endif
    }
}

/* Where a step's intermediate results lie in its scratch memory. */
typedef struct {
    float *x, *normed, *qkv, *mixed, *gate_up, *act, *last, *low, *scores;
    char *rows, *last_rows;
    int64_t reach; /* floats of scores for each thread */
    int64_t *piece_of;
} Room;

static char *cut(char **at, int64_t bytes) {
    char *here = *at;
    *at += up(bytes, 128);
    return here;
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static Room lay_out(const Model *m, const Step *s, int64_t threads, char *base, int64_t *bytes) {
    Room room;
    char *at = base;
    int64_t n = s->rows, mixed = m->heads * m->head, rows = 0;
    for (int64_t i = 0; i < m->layers; i++) {
        const Layer *layer = m->layer + i;
        rows = larger(rows, larger(larger(row_bytes(&layer->qkv), row_bytes(&layer->out)),
                                   larger(row_bytes(&layer->gate_up), row_bytes(&layer->down))));
    }
    room.x = (float *)cut(&at, 4 * n * m->width);
    room.normed = (float *)cut(&at, 4 * n * m->width);
    room.qkv = (float *)cut(&at, 4 * n * (m->heads + 2 * m->groups) * m->head);
    room.mixed = (float *)cut(&at, 4 * n * mixed);
    room.gate_up = (float *)cut(&at, 8 * n * m->inner);
    room.act = (float *)cut(&at, 4 * n * m->inner);
    room.rows = cut(&at, n * rows);
    room.last = (float *)cut(&at, 4 * s->wanted * m->width);
    room.last_rows = cut(&at, s->wanted * row_bytes(&m->lm_head));
    room.low = (float *)cut(&at, 4 * n * 3 * s->rank);
    room.piece_of = (int64_t *)cut(&at, 8 * n);
    room.reach = up(8 * up(s->longest + BLOCK, BLOCK), 32);
    room.scores = (float *)cut(&at, 4 * threads * room.reach);
    *bytes = at - base;
    return room;
}

int64_t step_bytes(const Model *model, const Step *step, int64_t threads) {
    int64_t bytes;
    lay_out(model, step, threads, (char *)0, &bytes);
    return bytes;
}

/* gain * x over its root mean square. */
static void norm_row(const float *x, const float *gain, float eps, int64_t width, float *y) {
    vf squares[2] = {{}, {}};
    int64_t i = 0;
    float total = 0;
    for (; i + 2 * LANES <= width; i += 2 * LANES) {
        squares[0] += load(x + i) * load(x + i);
        squares[1] += load(x + i + LANES) * load(x + i + LANES);
    }
    for (; i < width; i++) total += x[i] * x[i];
    float scale = 1.0f / sqrtf((total + sum(squares[0] + squares[1])) / (float)width + eps);
    for (i = 0; i < width; i++) y[i] = gain[i] * (x[i] * scale);
}

/* silu(gate) * up, or gelu(gate) * up in its tanh form: x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3). */
INLINE vf gated(vf gate, vf up, int64_t gelu) {
    vf by = gelu ? 1.5957691216f * (gate + 0.044715f * gate * gate * gate) : gate;
    return gate / (1.0f + power(-by)) * up;
}

static void act_row(const float *gate, const float *up, int64_t width, int64_t gelu, float *y) {
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) store(y + i, gated(load(gate + i), load(up + i), gelu));
    for (; i < width; i++) y[i] = gated(all(gate[i]), all(up[i]), gelu)[0];
}

/* One head (K): normed where there is a gain, its first planes turned. */
static void turn_head(const Model *m, const Layer *layer, const float *gain, int64_t at, float scale, float *x) {
    if (gain) norm_row(x, gain, m->eps, m->head, x);
    const float *c = layer->cosine + at * m->half, *s = layer->sine + at * m->half;
    for (int64_t i = 0; i < m->half; i++) {
        float a = x[i], b = x[i + m->half];
        x[i] = a * c[i] - b * s[i];
        x[i + m->half] = b * c[i] + a * s[i];
    }
    if (scale != 1.0f) for (int64_t i = 0; i < m->head; i++) x[i] *= scale;
}

/* low = down x for each row and projection; y += scale * up low. Two phases; `first` of `count` projections that share x. */
static void adapt(Team *team, const Model *m, const Step *s, const Room *room, int64_t layer, int first, int count,
                  const float *x, int64_t inputs, float *y, int64_t ld, const int64_t *outputs) {
    SHARED(team, s->rows, 4) {
        const Piece *piece = s->piece + room->piece_of[item];
        for (int part = 0; piece->adapter && part < count; part++) {
            const Lora *lora = piece->adapter + layer * LORAS + first + part;
            for (int64_t r = 0; lora->down && r < lora->rank; r++) {
                const float *from = x + item * inputs, *a = lora->down + r * inputs;
                vf total = {};
                float rest = 0;
                int64_t i = 0;
                for (; i + LANES <= inputs; i += LANES) total += load(from + i) * load(a + i);
                for (; i < inputs; i++) rest += from[i] * a[i];
                room->low[(item * 3 + part) * s->rank + r] = lora->scale * (sum(total) + rest);
            }
        }
    }
    meet(team);
    SHARED(team, s->rows, 4) {
        const Piece *piece = s->piece + room->piece_of[item];
        float *to = y + item * ld;
        for (int part = 0; piece->adapter && part < count; to += outputs[part++]) {
            const Lora *lora = piece->adapter + layer * LORAS + first + part;
            for (int64_t r = 0; lora->down && r < lora->rank; r++) {
                float by = room->low[(item * 3 + part) * s->rank + r];
                const float *b = lora->up + r * outputs[part];
                for (int64_t o = 0; o < outputs[part]; o++) to[o] += by * b[o];
            }
        }
    }
    meet(team);
}

static void step_layer(Team *team, const Model *m, const Memory *memory, const Step *s, const Room *room, int64_t index,
                       float *scores) {
    const Layer *layer = m->layer + index;
    const int64_t n = s->rows, width = m->width, heads = m->heads + 2 * m->groups, ld = heads * m->head, mixed = m->heads * m->head;
    SHARED(team, n, 1) {
        norm_row(room->x + item * width, layer->norm, m->eps, width, room->normed + item * width);
        prepare(&layer->qkv, room->normed + item * width, room->rows + item * row_bytes(&layer->qkv));
    }
    meet(team);
    multiply(team, &layer->qkv, room->rows, n, room->qkv, ld, 0);
    meet(team);
    if (s->rank) {
        const int64_t outputs[] = {mixed, m->groups * m->head, m->groups * m->head};
        adapt(team, m, s, room, index, LORA_Q, 3, room->normed, width, room->qkv, ld, outputs);
    }
    SHARED(team, n * (m->heads + m->groups), 4) {
        int64_t row = item / (m->heads + m->groups), head = item % (m->heads + m->groups);
        const Piece *piece = s->piece + room->piece_of[row];
        int is_query = head < m->heads;
        turn_head(m, layer, is_query ? layer->norm_q : layer->norm_k, piece->start + row - piece->first, is_query ? m->scale : 1.0f,
                  room->qkv + row * ld + head * m->head);
        if (!is_query) keep_row(m, memory, piece, index, row - piece->first, head - m->heads, room->qkv + row * ld);
    }
    meet(team);
    attend(team, m, memory, s, index, room->qkv, room->mixed, scores);
    meet(team);
    SHARED(team, n, 1) prepare(&layer->out, room->mixed + item * mixed, room->rows + item * row_bytes(&layer->out));
    meet(team);
    multiply(team, &layer->out, room->rows, n, room->x, width, 1);
    meet(team);
    if (s->rank) adapt(team, m, s, room, index, LORA_OUT, 1, room->mixed, mixed, room->x, width, &width);
    SHARED(team, n, 1) {
        norm_row(room->x + item * width, layer->norm_mlp, m->eps, width, room->normed + item * width);
        prepare(&layer->gate_up, room->normed + item * width, room->rows + item * row_bytes(&layer->gate_up));
    }
    meet(team);
    multiply(team, &layer->gate_up, room->rows, n, room->gate_up, 2 * m->inner, 0);
    meet(team);
    if (s->rank) {
        const int64_t outputs[] = {m->inner, m->inner};
        adapt(team, m, s, room, index, LORA_GATE, 2, room->normed, width, room->gate_up, 2 * m->inner, outputs);
    }
    SHARED(team, n, 1) {
        const float *gate = room->gate_up + item * 2 * m->inner;
        act_row(gate, gate + m->inner, m->inner, m->gelu, room->act + item * m->inner);
        prepare(&layer->down, room->act + item * m->inner, room->rows + item * row_bytes(&layer->down));
    }
    meet(team);
    multiply(team, &layer->down, room->rows, n, room->x, width, 1);
    meet(team);
    if (s->rank) adapt(team, m, s, room, index, LORA_DOWN, 1, room->act, m->inner, room->x, width, &width);
}

static void step_work(Team *team, const Model *m, const Memory *memory, const Step *s, const Room *room, float *scores) {
    SHARED(team, s->rows, 4) {
        float *x = room->x + item * m->width;
        unpack_row(&m->embed, s->ids[item], x);
        if (m->embed_scale != 1.0f) for (int64_t i = 0; i < m->width; i++) x[i] *= m->embed_scale;
    }
    meet(team);
    for (int64_t i = 0; i < m->layers; i++) step_layer(team, m, memory, s, room, i, scores);
    SHARED(team, s->rows, 4) {
        vf squares = {};
        float rest = 0;
        int64_t i = 0;
        for (; i + LANES <= m->width; i += LANES) squares += load(room->x + item * m->width + i) * load(room->x + item * m->width + i);
        for (; i < m->width; i++) rest += room->x[item * m->width + i] * room->x[item * m->width + i];
        s->fault[item] = !isfinite(rest + sum(squares));
    }
    meet(team);
    SHARED(team, s->wanted, 1) {
        float *normed = room->last + item * m->width;
        norm_row(room->x + s->want[item] * m->width, m->norm, m->eps, m->width, normed);
        prepare(&m->lm_head, normed, room->last_rows + item * row_bytes(&m->lm_head));
    }
    meet(team);
    multiply(team, &m->lm_head, room->last_rows, s->wanted, s->logits, m->lm_head.outputs, 0);
}

void step(const Model *model, const Memory *memory, const Step *s, int64_t threads) {
    int64_t bytes;
    Room room = lay_out(model, s, threads, s->scratch, &bytes);
    for (int64_t p = 0; p < s->pieces; p++)
        for (int64_t t = 0; t < s->piece[p].tokens; t++) room.piece_of[s->piece[p].first + t] = p;
    Team team = {0};
#pragma omp parallel num_threads((int)threads)
    {
#pragma omp single
        team.threads = omp_get_num_threads();
        step_work(&team, model, memory, s, &room, room.scores + omp_get_thread_num() * room.reach);
    }
}

/* One product by itself, for tests, for measuring and for adapters of other runners: x (N, I) floats to y (N, O). */
void product(const Matrix *m, const float *x, int64_t n, char *rows, float *y, int64_t threads) {
    Team team = {0};
#pragma omp parallel num_threads((int)threads)
    {
#pragma omp single
        team.threads = omp_get_num_threads();
        SHARED(&team, n, 1) prepare(m, x + item * m->inputs, rows + item * row_bytes(m));
        meet(&team);
        multiply(&team, m, rows, n, y, m->outputs, 0);
    }
}

/* What this was compiled for: floats in a vector, then 1 for products of 8-bit codes, 2 for those of bf16. */
int64_t lanes(void) { return LANES; }
int64_t extras(void) {
    int64_t found = 0;
#if defined(__AVX512VNNI__)
    found |= 1;
#endif
#if defined(__AVX512BF16__)
    found |= 2;
#endif
    return found;
}
