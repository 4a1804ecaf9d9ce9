// How attention_amx.cpp divides a batch: tasks of query rows, strips of keys, and what a thread works in.

#pragma once

#include <algorithm>

#include "amx_squares.h"

namespace {

constexpr int64_t COLUMNS = 4;  // of 32 query rows in a task
constexpr int64_t CHUNK = 8;    // strips of 32 keys between two looks at the maximum
constexpr int64_t MOST_DIM = 256;

// amx_attention.py makes these tables once a batch. A piece is a segment whose keys a segment sees: one of its
// context, or itself. `turn` counts the tasks of earlier segments that add to the piece's gradients, its own included.
struct Segment {
    int64_t start, length, first_strip, first_piece, n_pieces;
};
struct Piece {
    int64_t segment, turn;
};
struct Task {
    int64_t segment, number;  // the number among those of its segment
};
struct Plan {
    const Segment* segments;
    const Piece* pieces;
    const Task* tasks;
    const int64_t* owners;  // the segment of each strip
    int64_t n_tasks, n_strips, groups, repeats, dim;
};

// 32 query rows: a token and one of the heads that share a key head in each. Rows behind the segment's end are zero and
// see what its last row sees.
struct Column {
    const Segment* segment;
    int64_t dim, n_heads, count, tokens[SIDE], heads[SIDE];

    void place(const Plan& plan, const Segment& of, int64_t group, int64_t first) {
        segment = &of, dim = plan.dim, n_heads = plan.groups * plan.repeats;
        count = std::min(SIDE, of.length * plan.repeats - first);
        int64_t token = of.start + first / plan.repeats, repeat = first % plan.repeats;
        for (int64_t i = 0; i < SIDE; ++i) {
            tokens[i] = token, heads[i] = group * plan.repeats + repeat;
            if (i + 1 < count && ++repeat == plan.repeats) ++token, repeat = 0;
        }
    }

    int64_t head_of(int64_t i) const { return tokens[i] * n_heads + heads[i]; }

    void gather(const bf16* from, int64_t stride, bf16* rows) const {
        for (int64_t i = 0; i < count; ++i) copy(rows + i * dim, from + tokens[i] * stride + heads[i] * dim, dim);
        std::fill(rows + count * dim, rows + SIDE * dim, bf16{0});
    }

    void rotate_all(bf16* rows, const float* cosine, const float* sine) const {
        int64_t half = dim / 2;
        for (int64_t i = 0; i < count; ++i) {
            bf16* row = rows + i * dim;
            rotate(row, row, cosine + tokens[i] * half, sine + tokens[i] * half, half, 1.0f, 1.0f);
        }
    }

    // The last key of `piece` that each row sees; returns how many strips the last row sees.
    int64_t limits(const Segment& piece, int32_t* last) const {
        for (int64_t i = 0; i < SIDE; ++i)
            last[i] = int32_t(&piece == segment ? tokens[i] - segment->start : piece.length - 1);
        return last[SIDE - 1] / SIDE + 1;
    }
};

// What a thread works in. Squares of chances, slopes and pairs lie as [strip, column]; forward has one column.
struct Room {
    alignas(64) bf16 rows[SIDE * MOST_DIM], others[SIDE * MOST_DIM];
    alignas(64) bf16 query[COLUMNS][SIDE * MOST_DIM], query_pairs[COLUMNS][SIDE * MOST_DIM];
    alignas(64) bf16 given[COLUMNS][SIDE * MOST_DIM], given_pairs[COLUMNS][SIDE * MOST_DIM];
    alignas(64) bf16 chances[CHUNK * COLUMNS * SQUARE], slopes[CHUNK * COLUMNS * SQUARE];
    alignas(64) bf16 slope_pairs[CHUNK * COLUMNS * SQUARE];
    alignas(64) float scores[CHUNK * SQUARE], gradients[SQUARE], sums[COLUMNS][SIDE * MOST_DIM];
    alignas(64) float turned[SIDE * MOST_DIM], log_sums[COLUMNS][SIDE], along[COLUMNS][SIDE];
    alignas(64) int32_t last[SIDE];
    Column columns[COLUMNS];
};

// Not inlined: a compiler that knows where this comes from asks for its address again in the innermost loops.
__attribute__((noinline)) Room& own_room() {
    thread_local Room room;
    return room;
}

// Runs body(room, task, group) for all of them, claimed in order. Groups alternate: they never wait for one another.
template <class Body>
void each_task(const Plan& plan, const Body& body) {
    int64_t next = 0, count = plan.n_tasks * plan.groups;
#pragma omp parallel
    {
        Tiles tiles;
        Room& room = own_room();
        for (int64_t i; (i = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)) < count;)
            body(room, plan.tasks[i / plan.groups], i % plan.groups);
    }
}

// Runs body(group, strip, first token, tokens) for each strip of each key head; strips count through the groups.
template <class Body>
void each_strip(const Plan& plan, const Body& body) {
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t group = 0; group < plan.groups; ++group)
        for (int64_t strip = 0; strip < plan.n_strips; ++strip) {
            const Segment& segment = plan.segments[plan.owners[strip]];
            int64_t before = (strip - segment.first_strip) * SIDE, count = std::min(SIDE, segment.length - before);
            body(group, group * plan.n_strips + strip, segment.start + before, count);
        }
}

// 32 rows of one head, zero behind the segment's end.
void take_strip(const bf16* from, int64_t stride, int64_t count, int64_t dim, bf16* to) {
    for (int64_t i = 0; i < count; ++i) copy(to + i * dim, from + i * stride, dim);
    std::fill(to + count * dim, to + SIDE * dim, bf16{0});
}

void rotate_strip(bf16* rows, int64_t token, int64_t count, int64_t dim, const float* cosine, const float* sine) {
    int64_t half = dim / 2;
    for (int64_t i = 0; i < count; ++i, ++token, rows += dim)
        rotate(rows, rows, cosine + token * half, sine + token * half, half, 1.0f, 1.0f);
}

}  // namespace
