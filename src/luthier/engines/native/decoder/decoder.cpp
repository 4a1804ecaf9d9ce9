// A step of the decoder (decoder.h). Mathematics and names as in transformers' LlamaForCausalLM and its kin.

#include "decoder.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <numeric>

namespace {

constexpr int PANELS_A_CHUNK = 8;

const float* floats(const Buffer& buffer) { return static_cast<const float*>(buffer.get()); }

void grow(std::vector<float>& buffer, size_t size) {
    if (buffer.size() < size) buffer.resize(size);
}

}  // namespace

Decoder::Decoder(const Shape& shape, const float* cosines, const float* sines, int n_threads)
    : shape_(shape),
      cache_{shape.n_layers, shape.n_kv_heads, shape.head_dim},
      cosines_(cosines, cosines + size_t(shape.context) * shape.head_dim / 2),
      sines_(sines, sines + size_t(shape.context) * shape.head_dim / 2),
      pool_(n_threads),
      layers_(shape.n_layers) {
    // Memory of a page is taken from the system when the page is first written.
    cache_bytes_ = cache_.page() * shape.n_pages * sizeof(f16);
    void* memory = mmap(nullptr, cache_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    cache_memory_ = static_cast<f16*>(memory);
}

Decoder::~Decoder() { munmap(cache_memory_, cache_bytes_); }

void Decoder::copy_page(int from, int to) {
    const f16* source = cache_memory_ + cache_.page() * size_t(from);
    std::copy_n(source, cache_.page(), cache_memory_ + cache_.page() * size_t(to));
}

void Decoder::norm_rows(const float* x, const void* weight, float* out, int n) {
    const int size = shape_.hidden;
    const float* w = static_cast<const float*>(weight);
    pool_.run(n <= 4 ? 1 : std::min(n, 16), [&](int chunk) {
        const int chunks = n <= 4 ? 1 : std::min(n, 16);
        for (int row = n * chunk / chunks; row < n * (chunk + 1) / chunks; row++) {
            const float* from = x + size_t(row) * size;
            float* to = out + size_t(row) * size;
            f32x16 squares = {};
            for (int i = 0; i < size; i += LANES) {
                f32x16 v = load16(from + i);
                squares += v * v;
            }
            const float factor = 1.0f / std::sqrt(sum16(squares) / float(size) + shape_.epsilon);
            for (int i = 0; i < size; i += LANES) store16(to + i, load16(from + i) * factor * load16(w + i));
        }
    });
}

// y = x W' + bias, and for rows with an adapter + x A' B'.
void Decoder::project(int layer, int joined, const float* x, float* y, int n) {
    const Matrix& matrix = layers_[layer].joined[joined];
    const int k = matrix.k, y_stride = panels_of(matrix.n) * LANES, panels = panels_of(matrix.n);
    struct Part {
        const LowRank* pair;
        const Run* run;
        int first_panel;
        float* low;
    };
    std::vector<Part> parts;
    size_t used = 0;
    for (const Run& run : runs_) {
        if (!run.adapter) continue;
        for (int module = 0; module < N_MODULES; module++) {
            int where;
            const int first = place(module, &where);
            const LowRank& pair = run.adapter->modules[size_t(layer) * N_MODULES + module];
            if (where != joined || !pair) continue;
            parts.push_back({&pair, &run, first / LANES, low_.data() + used});
            used += size_t(run.n) * pair.a.n;
        }
    }
    pool_.run(int(parts.size()), [&](int i) {
        const Part& part = parts[i];
        const int rank = part.pair->a.n;
        multiply(part.pair->a, {x + size_t(part.run->first) * k, size_t(k), part.low, size_t(rank), part.run->n}, 0,
                 rank / LANES);
    });
    const int size = n > 4 ? PANELS_A_CHUNK / 2 : PANELS_A_CHUNK, chunks = (panels + size - 1) / size;
    const float* bias = floats(matrix.bias);
    pool_.run(chunks, [&](int chunk) {
        const int begin = chunk * size, end = std::min(panels, begin + size);
        multiply(matrix, {x, size_t(k), y, size_t(y_stride), n}, begin, end);
        for (const Part& part : parts) {
            const Matrix& b = part.pair->b;
            const int from = std::max(begin, part.first_panel), to = std::min(end, part.first_panel + panels_of(b.n));
            if (from >= to) continue;
            float* target = y + size_t(part.run->first) * y_stride + size_t(part.first_panel) * LANES;
            multiply<true>(b, {part.low, size_t(b.k), target, size_t(y_stride), part.run->n}, from - part.first_panel,
                           to - part.first_panel);
        }
        if (bias)
            for (int row = 0; row < n; row++)
                for (int i = begin * LANES; i < end * LANES; i += LANES) {
                    float* place = y + size_t(row) * y_stride + i;
                    store16(place, load16(place) + load16(bias + i));
                }
    });
}

// As transformers' apply_rotary_pos_emb: the second half of a head's dimensions goes with the first.
void Decoder::rotate(float* head, int position) const {
    const int half = shape_.head_dim / 2;
    const float* cosine = cosines_.data() + size_t(position) * half;
    const float* sine = sines_.data() + size_t(position) * half;
    for (int i = 0; i < half; i++) {
        const float a = head[i], b = head[half + i];
        head[i] = a * cosine[i] - b * sine[i];
        head[half + i] = b * cosine[i] + a * sine[i];
    }
}

void Decoder::attend_rows(int layer) {
    const int dim = shape_.head_dim, heads = shape_.n_heads, kv_heads = shape_.n_kv_heads, group = heads / kv_heads;
    const size_t stride = size_t(panels_of(width(QKV))) * LANES, out_stride = size_t(heads) * dim;
    const Layer& weights = layers_[layer];
    const int n_segments = int(segments_.size());
    auto norm_head = [&](float* head, const Buffer& weight) {
        if (!weight) return;
        f32x16 squares = {};
        for (int i = 0; i < dim; i += LANES) squares += load16(head + i) * load16(head + i);
        const float factor = 1.0f / std::sqrt(sum16(squares) / float(dim) + shape_.epsilon);
        for (int i = 0; i < dim; i += LANES) store16(head + i, load16(head + i) * factor * load16(floats(weight) + i));
    };
    const int n_rows = int(positions_.size()), blocks = std::min(n_rows, 16);
    pool_.run(n_rows <= 4 ? 1 : blocks, [&](int chunk) {
        const int chunks = n_rows <= 4 ? 1 : blocks;
        int segment = 0;
        for (int row = n_rows * chunk / chunks; row < n_rows * (chunk + 1) / chunks; row++) {
            while (segment + 1 < n_segments && first_rows_[segment + 1] <= row) segment++;
            const int position = positions_[row], place = position % PAGE;
            float* y = y_.data() + row * stride;
            for (int head = 0; head < heads; head++) {
                norm_head(y + head * dim, weights.q_norm);
                rotate(y + head * dim, position);
            }
            f16* page = pages_[segment][position / PAGE] + layer * cache_.layer();
            for (int head = 0; head < kv_heads; head++) {
                float* key = y + (heads + head) * dim;
                const float* value = y + (heads + kv_heads + head) * dim;
                norm_head(key, weights.k_norm);
                rotate(key, position);
                f16* keys = page + head * cache_.head();
                f16* values = page + (kv_heads + head) * cache_.head() + size_t(place) * dim;
                for (int d = 0; d < dim; d++) keys[size_t(d) * PAGE + place] = narrow(key[d]);
                for (int d = 0; d < dim; d++) values[d] = narrow(value[d]);
            }
        }
    });
    // A task: queries of one segment and key-value head that see about as much. A single row's heads are parted too.
    struct Task {
        int segment, kv_head, first, n;  // `first` counts queries: (row, head of the group)
    };
    std::vector<Task> tasks;
    for (int segment = 0; segment < n_segments; segment++) {
        const int queries = segments_[segment]->n_tokens * group;
        const int size = n_segments > 1 || queries > 2 * QUERIES ? MOST_QUERIES : std::max(1, group / 3);
        for (int head = 0; head < kv_heads; head++)
            for (int first = 0; first < queries; first += size)
                tasks.push_back({segment, head, first, std::min(size, queries - first)});
    }
    const float scale = 1.0f / std::sqrt(float(dim));
    pool_.run(int(tasks.size()), [&](int i) {
        const Task& task = tasks[i];
        const size_t offset = layer * cache_.layer() + task.kv_head * cache_.head();
        const CachedHead cached{pages_[task.segment].data(), offset, cache_, scale};
        Query queries[MOST_QUERIES];
        for (int j = 0; j < task.n; j++) {
            const int row = first_rows_[task.segment] + (task.first + j) / group;
            const int head = task.kv_head * group + (task.first + j) % group;
            const int seen = positions_[row] + 1;
            const int window = shape_.sliding_window;
            queries[j] = {y_.data() + row * stride + head * dim, h_.data() + row * out_stride + head * dim, seen,
                          window ? std::max(0, seen - window) : 0};
        }
        attend(cached, queries, task.n);
    });
}

void Decoder::embed(const Segment& segment, int row) {
    const int size = shape_.hidden;
    for (int i = 0; i < segment.n_tokens; i++) {
        float* target = x_.data() + size_t(row + i) * size;
        const size_t from = size_t(segment.tokens[i]) * size;
        for (int j = 0; j < size; j += LANES) {
            switch (embedding_format_) {
                case Format::FLOAT32: store16(target + j, load16(static_cast<const float*>(embedding_) + from + j)); break;
                case Format::BFLOAT16: store16(target + j, load16(static_cast<const bf16*>(embedding_) + from + j)); break;
                case Format::FLOAT16: store16(target + j, load16(static_cast<const f16*>(embedding_) + from + j)); break;
            }
        }
    }
}

void Decoder::write_logits(float* logits) {
    const int n = int(logit_rows_.size()), size = shape_.hidden, panels = panels_of(shape_.vocabulary);
    if (!n) return;
    for (int i = 0; i < n; i++)
        std::memcpy(z_.data() + size_t(i) * size, x_.data() + size_t(logit_rows_[i]) * size, sizeof(float) * size);
    norm_rows(z_.data(), final_norm_.get(), h_.data(), n);
    const int step = 4 * PANELS_A_CHUNK, chunks = (panels + step - 1) / step;
    pool_.run(chunks, [&](int chunk) {
        const Rows rows{h_.data(), size_t(size), logits, size_t(panels) * LANES, n};
        multiply(head_, rows, chunk * step, std::min(panels, (chunk + 1) * step));
    });
}

void Decoder::step(const Segment* segments, int n_segments, float* logits) {
    segments_.clear();
    for (int i = 0; i < n_segments; i++) segments_.push_back(segments + i);
    std::stable_sort(segments_.begin(), segments_.end(),
                     [](const Segment* a, const Segment* b) { return a->adapter < b->adapter; });
    first_rows_.assign(n_segments, 0);
    positions_.clear();
    runs_.clear();
    pages_.resize(n_segments);
    std::vector<int> sorted(n_segments);
    for (int i = 0; i < n_segments; i++) {
        const Segment& segment = *segments_[i];
        sorted[segments_[i] - segments] = i;
        first_rows_[i] = int(positions_.size());
        for (int t = 0; t < segment.n_tokens; t++) positions_.push_back(segment.first_position + t);
        const auto found = adapters_.find(segment.adapter);
        const Adapter* adapter = found == adapters_.end() ? nullptr : &found->second;
        if (runs_.empty() || runs_.back().adapter != adapter) runs_.push_back({adapter, first_rows_[i], 0});
        runs_.back().n += segment.n_tokens;
        const int n_pages = (segment.first_position + segment.n_tokens + PAGE - 1) / PAGE;
        pages_[i].clear();
        for (int page = 0; page < n_pages; page++)
            pages_[i].push_back(cache_memory_ + cache_.page() * size_t(segment.pages[page]));
    }
    logit_rows_.clear();
    for (int i = 0; i < n_segments; i++) {
        const int end = first_rows_[sorted[i]] + segments[i].n_tokens;
        for (int row = end - segments[i].n_logits; row < end; row++) logit_rows_.push_back(row);
    }
    const int n = int(positions_.size()), size = shape_.hidden;
    const size_t widest = size_t(LANES) * panels_of(std::max({width(QKV), width(GATE_UP), size}));
    grow(x_, size_t(n) * size);
    grow(h_, size_t(n) * std::max({size, shape_.n_heads * shape_.head_dim, shape_.intermediate}));
    grow(y_, size_t(n) * widest);
    grow(z_, size_t(n) * size);
    grow(low_, size_t(n) * low_width());
    for (int i = 0; i < n_segments; i++) embed(*segments_[i], first_rows_[i]);
    auto add = [&](const float* y) {
        for (size_t i = 0; i < size_t(n) * size; i += LANES) store16(&x_[i], load16(&x_[i]) + load16(y + i));
    };
    for (int layer = 0; layer < shape_.n_layers; layer++) {
        const Layer& weights = layers_[layer];
        norm_rows(x_.data(), weights.input_norm.get(), h_.data(), n);
        project(layer, QKV, h_.data(), y_.data(), n);
        attend_rows(layer);
        project(layer, OUT, h_.data(), z_.data(), n);
        add(z_.data());
        norm_rows(x_.data(), weights.post_norm.get(), h_.data(), n);
        project(layer, GATE_UP, h_.data(), y_.data(), n);
        const int inner = shape_.intermediate;
        const int chunks = n <= 4 ? 1 : std::min(n, 16);
        pool_.run(chunks, [&](int chunk) {
            for (int row = n * chunk / chunks; row < n * (chunk + 1) / chunks; row++) {
                const float* gate = y_.data() + size_t(row) * 2 * inner;
                float* out = h_.data() + size_t(row) * inner;
                for (int i = 0; i < inner; i += LANES) {
                    const f32x16 g = load16(gate + i);
                    store16(out + i, g / (exp16(-g) + 1.0f) * load16(gate + inner + i));
                }
            }
        });
        project(layer, FALL, h_.data(), z_.data(), n);
        add(z_.data());
    }
    write_logits(logits);
}
