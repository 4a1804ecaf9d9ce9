// Attention of one layer on a processor with AMX: one call forward and one back for all segments of a batch.
//
// Scores stand with keys down and query rows across: softmax then works on vectors of queries, and what it leaves lies
// as the next product wants it. A task is up to 128 query rows of one segment and key head (the query heads that share
// it are neighbouring rows), in columns of 32. It meets the keys that it may see 256 at a time: forward under a running
// maximum, so that no memory grows with the square of a length; back with the logarithms of sums that forward kept.
//
// Equal input gives equal bytes with any number of threads: a task sums in a fixed order, and where tasks add to one
// thing, the gradients of keys and values, they take turns in a fixed order. Tasks are claimed in that same order, so
// nobody waits for what nobody has begun. Probabilities and the gradients of scores are rounded to bfloat16 for the
// products that they go into; all else between input and output is float32.

#if defined(__linux__) && defined(__AMX_BF16__) && defined(__AVX512BF16__)

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmath>

#include "amx_tasks.h"

namespace {

constexpr float LOG2_E = 1.44269504088896341f;

struct Forward {
    Plan plan;
    const bf16 *qkv, *keys, *values;  // strips of keys are [32, dim], those of values [dim, 32]
    int64_t qkv_stride;
    bf16* out;
    int64_t out_stride;
    const float *cosine, *sine;
    float *log_sums, factor;

    // The maximum of 32 rows so far, and the sum relative to it.
    struct Softmax {
        __m512 most[2] = {_mm512_set1_ps(-1e30f), _mm512_set1_ps(-1e30f)}, total[2] = {};
    };

    void operator()(Room& room, const Task& task, int64_t group) const {
        const Segment& segment = plan.segments[task.segment];
        int64_t first = task.number * COLUMNS * SIDE, rows = segment.length * plan.repeats;
        for (int64_t row = first; row < std::min(first + COLUMNS * SIDE, rows); row += SIDE) {
            room.columns[0].place(plan, segment, group, row);
            attend(room, room.columns[0], group);
        }
    }

    void attend(Room& room, const Column& column, int64_t group) const {
        Softmax softmax;
        column.gather(qkv, qkv_stride, room.rows);
        column.rotate_all(room.rows, cosine, sine);
        pack_across(room.rows, room.query[0], plan.dim);
        bool begun = false;
        for (int64_t number = 0; number < column.segment->n_pieces; ++number) {
            const Segment& piece = plan.segments[plan.pieces[column.segment->first_piece + number].segment];
            int64_t strips = column.limits(piece, room.last), place = group * plan.n_strips + piece.first_strip;
            for (int64_t strip = 0; strip < strips; strip += CHUNK, begun = true)
                meet(room, softmax, place + strip, strip * SIDE, std::min(CHUNK, strips - strip), begun);
        }
        finish(room, column, softmax);
    }

    // Takes in some strips of keys and values: the first one's place among all, and its first key within the segment.
    void meet(Room& room, Softmax& softmax, int64_t place, int64_t first_key, int64_t strips, bool begun) const {
        int64_t dim = plan.dim, size = SIDE * dim;
        for (int64_t i = 0; i < strips; ++i)
            multiply(rows_of(keys + (place + i) * size, dim), across(room.query[0], dim), dim / SIDE,
                     room.scores + i * SQUARE, SIDE, false);
        soften(room, softmax, first_key, strips * SIDE, begun);
        for (int64_t d = 0; d < dim; d += SIDE)
            multiply(squares(values + place * size + d * SIDE, size), pairs(room.chances, SQUARE), strips,
                     room.sums[0] + d * SIDE, SIDE, begun);
    }

    // Scores -> probabilities times the sum, relative to the new maximum; what was gathered before shrinks to that.
    void soften(Room& room, Softmax& softmax, int64_t first_key, int64_t n_keys, bool begun) const {
        const __m512 scale = _mm512_set1_ps(factor);
        __m512i last[2];
        __m512 most[2], offset[2];
        for (int half = 0; half < 2; ++half) {
            last[half] = _mm512_sub_epi32(_mm512_load_si512(room.last + 16 * half), every(first_key));
            most[half] = softmax.most[half];
        }
        for (int64_t key = 0; key < n_keys; ++key)
            for (int half = 0; half < 2; ++half) {
                __m512 score = _mm512_load_ps(room.scores + key * SIDE + 16 * half);
                most[half] = _mm512_mask_max_ps(most[half], seen(key, last[half]), most[half], score);
            }
        for (int half = 0; half < 2; ++half) {
            __m512 shrink = power_of_two(_mm512_mul_ps(_mm512_sub_ps(softmax.most[half], most[half]), scale));
            for (float* at = room.sums[0] + 16 * half; begun && at < room.sums[0] + SIDE * plan.dim; at += SIDE)
                _mm512_store_ps(at, _mm512_mul_ps(_mm512_load_ps(at), shrink));
            offset[half] = _mm512_mul_ps(most[half], scale);
            softmax.most[half] = most[half];
            softmax.total[half] = _mm512_mul_ps(softmax.total[half], shrink);
        }
        for (int64_t key = 0; key < n_keys; key += 2)
            for (int half = 0; half < 2; ++half) {
                const float* scores = room.scores + key * SIDE + 16 * half;
                __m512 one = chance(_mm512_load_ps(scores), scale, offset[half], seen(key, last[half]));
                __m512 two = chance(_mm512_load_ps(scores + SIDE), scale, offset[half], seen(key + 1, last[half]));
                softmax.total[half] = _mm512_add_ps(softmax.total[half], _mm512_add_ps(one, two));
                bf16* to = room.chances + key / SIDE * SQUARE + half * TILE + key % SIDE * 16;
                _mm512_store_si512(to, paired(narrowed(one, two)));
            }
    }

    void finish(Room& room, const Column& column, const Softmax& softmax) const {
        alignas(64) float most[SIDE], total[SIDE];
        for (int half = 0; half < 2; ++half) {
            _mm512_store_ps(most + 16 * half, softmax.most[half]);
            _mm512_store_ps(total + 16 * half, softmax.total[half]);
        }
        turn(room.sums[0], room.turned, plan.dim);
        for (int64_t i = 0; i < column.count; ++i) {
            bf16* to = out + column.tokens[i] * out_stride + column.heads[i] * plan.dim;
            const float* from = room.turned + i * plan.dim;
            __m512 share = _mm512_set1_ps(1.0f / total[i]);
            for (int64_t d = 0; d < plan.dim; d += 16) narrow(to + d, _mm512_mul_ps(_mm512_load_ps(from + d), share));
            log_sums[column.head_of(i)] = most[i] * factor + std::log2(total[i]);
        }
    }
};

struct Backward {
    Plan plan;
    const bf16 *qkv, *keys, *turned_keys, *values;  // strips are [32, dim], turned ones [dim, 32]
    int64_t qkv_stride;
    const bf16 *out, *given;
    int64_t out_stride, given_stride;
    const float *log_sums, *cosine, *sine;
    float *key_sums, *value_sums, scale;
    int32_t* turns;  // how many tasks have added to the gradients of a strip
    bf16* gradient;
    int64_t gradient_stride;

    void operator()(Room& room, const Task& task, int64_t group) const {
        const Segment& segment = plan.segments[task.segment];
        int64_t row = task.number * COLUMNS * SIDE, rows = segment.length * plan.repeats;
        int64_t columns = std::min(COLUMNS, (rows - row + SIDE - 1) / SIDE);
        for (int64_t c = 0; c < columns; ++c) {
            room.columns[c].place(plan, segment, group, row + c * SIDE);
            prepare(room, c);
        }
        bool begun = false;
        for (int64_t number = 0; number < segment.n_pieces; ++number) {
            const Piece& piece = plan.pieces[segment.first_piece + number];
            const Segment& seen = plan.segments[piece.segment];
            int64_t strips = room.columns[columns - 1].limits(seen, room.last);
            for (int64_t strip = 0; strip < strips; strip += CHUNK, begun = true) {
                int64_t n_strips = std::min(CHUNK, strips - strip), first_columns[CHUNK];
                int64_t place = group * plan.n_strips + seen.first_strip + strip;
                for (int64_t c = columns - 1; c >= 0; --c)
                    meet(room, c, seen, place, strip, n_strips, begun, first_columns);
                for (int64_t i = 0; i < n_strips; ++i) {
                    // The first tasks of the piece itself end before the strip begins, and have no turn at it.
                    int64_t without = (strip + i) * plan.repeats / COLUMNS;
                    give(room, i, first_columns[i], columns, place + i, int32_t(piece.turn + task.number - without));
                }
            }
        }
        for (int64_t c = 0; c < columns; ++c) finish(room, c);
    }

    void prepare(Room& room, int64_t c) const {
        const Column& column = room.columns[c];
        column.gather(out, out_stride, room.others);
        column.gather(given, given_stride, room.rows);
        for (int64_t i = 0; i < SIDE; ++i) {
            __m512 along = _mm512_setzero_ps();
            for (int64_t at = i * plan.dim; at < (i + 1) * plan.dim; at += 16)
                along = _mm512_fmadd_ps(widened(room.others + at), widened(room.rows + at), along);
            room.along[c][i] = _mm512_reduce_add_ps(along);
            room.log_sums[c][i] = i < column.count ? log_sums[column.head_of(i)] : 0.0f;
        }
        pack_across(room.rows, room.given[c], plan.dim);
        pack_pairs(room.rows, room.given_pairs[c], plan.dim);
        column.gather(qkv, qkv_stride, room.rows);
        column.rotate_all(room.rows, cosine, sine);
        pack_across(room.rows, room.query[c], plan.dim);
        pack_pairs(room.rows, room.query_pairs[c], plan.dim);
    }

    // A column and those strips of a chunk that it sees; it begins at `place` among all, at `strip` in the piece.
    void meet(Room& room, int64_t c, const Segment& piece, int64_t place, int64_t strip, int64_t n_strips, bool begun,
              int64_t* first_columns) const {
        int64_t size = SIDE * plan.dim, n_seen = std::min(n_strips, room.columns[c].limits(piece, room.last) - strip);
        for (int64_t i = 0; i < n_seen; ++i) {
            first_columns[i] = c;
            square(room, c, i, place + i, (strip + i) * SIDE);
        }
        Right slopes = pairs(room.slope_pairs + c * SQUARE, COLUMNS * SQUARE);
        for (int64_t d = 0; d < plan.dim && n_seen > 0; d += SIDE)
            multiply(squares(turned_keys + place * size + d * SIDE, size), slopes, n_seen, room.sums[c] + d * SIDE,
                     SIDE, begun);
    }

    // Probabilities of a column and a strip, and the gradients of its scores but for the scale.
    void square(Room& room, int64_t c, int64_t i, int64_t place, int64_t first_key) const {
        int64_t dim = plan.dim, size = SIDE * dim, at = (i * COLUMNS + c) * SQUARE;
        Right query = across(room.query[c], dim), given = across(room.given[c], dim);
        multiply(rows_of(keys + place * size, dim), query, dim / SIDE, room.scores, SIDE, false);
        multiply(rows_of(values + place * size, dim), given, dim / SIDE, room.gradients, SIDE, false);
        const __m512 factor = _mm512_set1_ps(scale * LOG2_E);
        for (int64_t half = 0; half < 2; ++half) {
            const __m512i last = _mm512_sub_epi32(_mm512_load_si512(room.last + 16 * half), every(first_key));
            const __m512 offset = _mm512_load_ps(room.log_sums[c] + 16 * half);
            const __m512 along = _mm512_load_ps(room.along[c] + 16 * half);
            for (int64_t key = 0; key < SIDE; key += 2) {
                int64_t from = key * SIDE + 16 * half;
                __m512 chances[2], slopes[2];
                for (int64_t odd = 0; odd < 2; ++odd) {
                    __m512 score = _mm512_load_ps(room.scores + from + odd * SIDE);
                    __m512 pull = _mm512_sub_ps(_mm512_load_ps(room.gradients + from + odd * SIDE), along);
                    chances[odd] = chance(score, factor, offset, seen(key + odd, last));
                    slopes[odd] = _mm512_mul_ps(chances[odd], pull);
                }
                __m512i both = narrowed(slopes[0], slopes[1]);
                put_rows(room.chances + at + from, narrowed(chances[0], chances[1]));
                put_rows(room.slopes + at + from, both);
                _mm512_store_si512(room.slope_pairs + at + half * TILE + key * 16, paired(both));
            }
        }
    }

    // Adds what a strip's keys and values get from the columns that see it, when it is the task's turn.
    void give(Room& room, int64_t i, int64_t c, int64_t columns, int64_t place, int32_t turn) const {
        int64_t dim = plan.dim, at = place * SIDE * dim, from = (i * COLUMNS + c) * SQUARE, next = SIDE * MOST_DIM;
        while (__atomic_load_n(turns + place, __ATOMIC_ACQUIRE) != turn) sched_yield();
        for (int64_t d = 0; d < dim; d += SIDE) {
            multiply(squares(room.chances + from, SQUARE), pairs(room.given_pairs[c] + d * SIDE, next), columns - c,
                     value_sums + at + d, dim, turn > 0);
            multiply(squares(room.slopes + from, SQUARE), pairs(room.query_pairs[c] + d * SIDE, next), columns - c,
                     key_sums + at + d, dim, turn > 0);
        }
        __atomic_store_n(turns + place, turn + 1, __ATOMIC_RELEASE);
    }

    void finish(Room& room, int64_t c) const {
        const Column& column = room.columns[c];
        turn(room.sums[c], room.turned, plan.dim);
        for (int64_t i = 0; i < column.count; ++i)
            back(room.turned + i * plan.dim, column.tokens[i], column.heads[i]);
    }

    // The gradient of a rotated head but for the scale -> that of the head as it was.
    void back(const float* from, int64_t token, int64_t head) const {
        int64_t half = plan.dim / 2;
        bf16* to = gradient + token * gradient_stride + head * plan.dim;
        rotate(from, to, cosine + token * half, sine + token * half, half, scale, -1.0f);
    }
};

}  // namespace

// Asks the system for the tiles' state, which a process has only if it asks.
extern "C" int tiles_ready() {
    constexpr long ARCH_REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0;
}

// From the rows of `qkv` fills `out` and, for the way back, log_sums [tokens, heads].
extern "C" void attention_forward_bfloat16(const Plan* plan, const bf16* qkv, int64_t qkv_stride, const float* cosine,
                                           const float* sine, bf16* strips, bf16* out, int64_t out_stride,
                                           float* log_sums, float scale) {
    int64_t dim = plan->dim, groups = plan->groups, queries = groups * plan->repeats, size = SIDE * dim;
    bf16 *keys = strips, *values = strips + groups * plan->n_strips * size;
    each_strip(*plan, [=](int64_t group, int64_t strip, int64_t token, int64_t count) {
        const bf16* from = qkv + token * qkv_stride + (queries + group) * dim;
        take_strip(from, qkv_stride, count, dim, keys + strip * size);
        rotate_strip(keys + strip * size, token, count, dim, cosine, sine);
        bf16* rows = own_room().rows;
        take_strip(from + groups * dim, qkv_stride, count, dim, rows);
        pack_turned(rows, values + strip * size, dim);
    });
    float factor = scale * LOG2_E;
    each_task(*plan, Forward{*plan, qkv, keys, values, qkv_stride, out, out_stride, cosine, sine, log_sums, factor});
}

// The gradient of the rows of `qkv` from `given`, that of `out`, which is as attention_forward left it.
extern "C" void attention_backward_bfloat16(const Plan* plan, const bf16* qkv, int64_t qkv_stride, const float* cosine,
                                            const float* sine, const bf16* out, int64_t out_stride, const bf16* given,
                                            int64_t given_stride, const float* log_sums, bf16* strips, float* sums,
                                            int32_t* turns, bf16* gradient, int64_t gradient_stride, float scale) {
    int64_t dim = plan->dim, groups = plan->groups, queries = groups * plan->repeats, size = SIDE * dim;
    int64_t all = groups * plan->n_strips * size;
    bf16 *keys = strips, *turned_keys = strips + all, *values = strips + 2 * all;
    float *key_sums = sums, *value_sums = sums + all;
    each_strip(*plan, [=](int64_t group, int64_t strip, int64_t token, int64_t count) {
        const bf16* from = qkv + token * qkv_stride + (queries + group) * dim;
        take_strip(from, qkv_stride, count, dim, keys + strip * size);
        rotate_strip(keys + strip * size, token, count, dim, cosine, sine);
        take_strip(from + groups * dim, qkv_stride, count, dim, values + strip * size);
        pack_turned(keys + strip * size, turned_keys + strip * size, dim);
        turns[strip] = 0;
    });
    Backward body{*plan, qkv, keys, turned_keys, values, qkv_stride, out, given, out_stride, given_stride, log_sums,
                  cosine, sine, key_sums, value_sums, scale, turns, gradient, gradient_stride};
    each_task(*plan, body);
    each_strip(*plan, [=](int64_t group, int64_t strip, int64_t token, int64_t count) {
        for (int64_t i = 0; i < count; ++i) {
            int64_t from = strip * size + i * dim;
            body.back(key_sums + from, token + i, queries + group);
            bf16* to = gradient + (token + i) * gradient_stride + (queries + groups + group) * dim;
            for (int64_t d = 0; d < dim; d += 16) narrow(to + d, widened(value_sums + from + d));
        }
    });
}

#else

extern "C" int tiles_ready() { return 0; }

#endif
