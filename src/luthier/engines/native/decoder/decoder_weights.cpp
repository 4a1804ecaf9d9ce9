// A decoder's weights and adapters: where each module's matrix lies among those that it is joined with.

#include <algorithm>
#include <cstring>

#include "decoder.h"

namespace {

Buffer copied(const float* source, int n) {
    Buffer buffer = allocate(size_t(n) * sizeof(float));
    std::memcpy(buffer.get(), source, size_t(n) * sizeof(float));
    return buffer;
}

}  // namespace

int Decoder::width(int joined) const {
    switch (joined) {
        case QKV: return (shape_.n_heads + 2 * shape_.n_kv_heads) * shape_.head_dim;
        case GATE_UP: return 2 * shape_.intermediate;
        default: return shape_.hidden;
    }
}

int Decoder::input(int joined) const {
    switch (joined) {
        case OUT: return shape_.n_heads * shape_.head_dim;
        case FALL: return shape_.intermediate;
        default: return shape_.hidden;
    }
}

// Numbers of a row's low-rank products, at most: those of the modules that are joined.
int Decoder::low_width() const {
    int widest = 0;
    for (const auto& [id, adapter] : adapters_)
        for (int layer = 0; layer < shape_.n_layers; layer++) {
            int widths[N_JOINED] = {};
            for (int module = 0; module < N_MODULES; module++) {
                int joined;
                place(module, &joined);
                const LowRank& pair = adapter.modules[size_t(layer) * N_MODULES + module];
                widths[joined] += pair ? pair.a.n : 0;
            }
            widest = std::max(widest, *std::max_element(widths, widths + N_JOINED));
        }
    return widest;
}

// The first output of a module among those of the matrices that it is joined with.
int Decoder::place(int module, int* joined) const {
    const int q = shape_.n_heads * shape_.head_dim, kv = shape_.n_kv_heads * shape_.head_dim;
    switch (module) {
        case Q: *joined = QKV; return 0;
        case K: *joined = QKV; return q;
        case V: *joined = QKV; return q + kv;
        case O: *joined = OUT; return 0;
        case GATE: *joined = GATE_UP; return 0;
        case UP: *joined = GATE_UP; return shape_.intermediate;
        default: *joined = FALL; return 0;
    }
}

namespace {

int rows_of(const Shape& shape, int module) {
    switch (module) {
        case Q: return shape.n_heads * shape.head_dim;
        case K:
        case V: return shape.n_kv_heads * shape.head_dim;
        case GATE:
        case UP: return shape.intermediate;
        default: return shape.hidden;
    }
}

void pack(ThreadPool& pool, Matrix& matrix, const void* source, int first, int rows) {
    const int panels = panels_of(rows), chunks = std::min(panels, 64);
    pool.run(chunks, [&](int chunk) {
        int begin = int(int64_t(panels) * chunk / chunks), end = int(int64_t(panels) * (chunk + 1) / chunks);
        if (matrix.format == Format::FLOAT32)
            pack_panels(matrix, static_cast<const float*>(source), first, rows, begin, end);
        else  // of two formats with two bytes only the size matters here
            pack_panels(matrix, static_cast<const bf16*>(source), first, rows, begin, end);
    });
}

void make(Matrix& matrix, int n, int k, Format format) {
    matrix.n = n;
    matrix.k = k;
    matrix.format = format;
    matrix.panels = allocate(size_t(panels_of(n)) * LANES * k * bytes_of(format));
}

}  // namespace

void Decoder::set_matrix(int layer, int module, Format format, const void* source) {
    int joined;
    const int first = place(module, &joined);
    Matrix& matrix = layers_[layer].joined[joined];
    if (!matrix) make(matrix, width(joined), input(joined), format);
    pack(pool_, matrix, source, first, rows_of(shape_, module));
}

void Decoder::set_bias(int layer, int module, const float* source) {
    int joined;
    const int first = place(module, &joined);
    Matrix& matrix = layers_[layer].joined[joined];
    if (!matrix.bias) {
        matrix.bias = allocate(size_t(width(joined)) * sizeof(float));
        std::memset(matrix.bias.get(), 0, size_t(width(joined)) * sizeof(float));
    }
    std::memcpy(static_cast<float*>(matrix.bias.get()) + first, source, sizeof(float) * rows_of(shape_, module));
}

void Decoder::set_norm(int layer, int which, const float* source) {
    Layer& target = layers_[layer];
    switch (which) {
        case 0: target.input_norm = copied(source, shape_.hidden); break;
        case 1: target.post_norm = copied(source, shape_.hidden); break;
        case 2: target.q_norm = copied(source, shape_.head_dim); break;
        default: target.k_norm = copied(source, shape_.head_dim);
    }
}

void Decoder::set_embedding(Format format, const void* rows, const float* norm, const void* head) {
    embedding_format_ = format;
    embedding_ = rows;
    final_norm_ = copied(norm, shape_.hidden);
    make(head_, shape_.vocabulary, shape_.hidden, format);
    pack(pool_, head_, head, 0, shape_.vocabulary);
}

int Decoder::add_adapter() {
    const int id = next_adapter_++;
    adapters_[id].modules.resize(size_t(shape_.n_layers) * N_MODULES);
    return id;
}

void Decoder::set_low_rank(int id, int layer, int module, int rank, float scale, const float* a, const float* b) {
    LowRank& target = adapters_.at(id).modules[size_t(layer) * N_MODULES + module];
    const int padded = panels_of(rank) * LANES, rows = rows_of(shape_, module);
    int joined;
    place(module, &joined);
    make(target.a, padded, input(joined), Format::FLOAT32);
    pack_panels(target.a, a, 0, rank, 0, panels_of(rank));
    std::vector<float> scaled(size_t(rows) * padded, 0.0f);
    for (int row = 0; row < rows; row++)
        for (int r = 0; r < rank; r++) scaled[size_t(row) * padded + r] = b[size_t(row) * rank + r] * scale;
    make(target.b, rows, padded, Format::FLOAT32);
    pack_panels(target.b, scaled.data(), 0, rows, 0, panels_of(rows));
}
