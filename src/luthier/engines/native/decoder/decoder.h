// A decoder-only transformer of the Llama family with any number of LoRA adapters, computed in float32.
//
// One step takes rows of many sequences at once: whole prompts or pieces of them, and single tokens. A row's result has
// the same bits whatever other rows are in the step, and however its prompt was cut into pieces.

#pragma once

#include <map>
#include <vector>

#include "attention.h"
#include "linear.h"
#include "thread_pool.h"

// As `Shape` in library.py.
struct Shape {
    int32_t n_layers, hidden, n_heads, n_kv_heads, head_dim, intermediate, vocabulary, context, sliding_window, n_pages;
    float epsilon;
};

enum Module { Q = 0, K, V, O, GATE, UP, DOWN, N_MODULES };

// The matrices of a layer as they are computed: those that read the same rows lie behind one another.
enum Joined { QKV = 0, OUT, GATE_UP, FALL, N_JOINED };

struct LowRank {
    Matrix a, b;  // b is scaled
    explicit operator bool() const { return bool(a); }
};

struct Adapter {
    std::vector<LowRank> modules;  // by layer and module
};

struct Layer {
    Matrix joined[N_JOINED];
    Buffer input_norm, post_norm, q_norm, k_norm;  // the last two may be missing
};

// As `Segment` in library.py: rows of one sequence, in the order of their positions.
struct Segment {
    int32_t first_position, n_tokens, adapter, n_logits;  // of the last `n_logits` tokens logits are wanted
    const int32_t* tokens;
    const int32_t* pages;
};

class Decoder {
  public:
    Decoder(const Shape& shape, const float* cosines, const float* sines, int n_threads);
    ~Decoder();

    void set_matrix(int layer, int module, Format format, const void* source);
    void set_bias(int layer, int module, const float* source);
    void set_norm(int layer, int which, const float* source);
    void set_embedding(Format format, const void* rows, const float* norm, const void* head);

    int add_adapter();
    void set_low_rank(int adapter, int layer, int module, int rank, float scale, const float* a, const float* b);
    void remove_adapter(int adapter) { adapters_.erase(adapter); }

    // All layers' keys and values of a page of the cache into another; what is not computed yet is copied too.
    void copy_page(int from, int to);

    // Raises nothing and allocates what it needs; `logits` has a row for each wanted token, in the order of segments.
    void step(const Segment* segments, int n_segments, float* logits);

    ThreadPool& pool() { return pool_; }

  private:
    struct Run {  // rows with the same adapter
        const Adapter* adapter;
        int first, n;
    };

    int width(int joined) const;
    int input(int joined) const;
    int place(int module, int* joined) const;
    int low_width() const;
    void rotate(float* head, int position) const;
    void norm_rows(const float* x, const void* weight, float* out, int n);
    void project(int layer, int joined, const float* x, float* y, int n);
    void attend_rows(int layer);
    void embed(const Segment& segment, int row);
    void write_logits(float* logits);

    Shape shape_;
    CacheShape cache_;
    std::vector<float> cosines_, sines_;
    ThreadPool pool_;
    std::vector<Layer> layers_;
    Format embedding_format_ = Format::FLOAT32;
    const void* embedding_ = nullptr;
    Buffer final_norm_;
    Matrix head_;
    std::map<int, Adapter> adapters_;
    int next_adapter_ = 0;

    f16* cache_memory_ = nullptr;
    size_t cache_bytes_ = 0;

    // Of the step in progress.
    std::vector<const Segment*> segments_;
    std::vector<int> first_rows_, positions_, logit_rows_;
    std::vector<Run> runs_;
    std::vector<std::vector<f16*>> pages_;
    std::vector<float> x_, h_, y_, z_, low_;
};
