// Draws tokens from logits, and the log-probabilities that the model itself gave them.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "decoder.h"

namespace {

// As `Draw` in library.py: one token to draw. Log-probabilities are of the raw logits: before biases, penalties,
// temperature and grammar (`mask`: a bit for each token that may come).
struct Draw {
    const float* logits;
    const uint32_t* mask;
    const int32_t* bias_tokens;
    const float* bias_values;
    const int32_t* seen_tokens;
    const int32_t* seen_counts;
    int32_t n_biases, n_seen, n_top;
    float temperature, top_p, frequency, presence;
    double uniform;
    int32_t token;
    float log_prob;
    int32_t* top_tokens;
    float* top_log_probs;
};

constexpr float UNLIKELY = 1e-6f;
constexpr int NOTHING = -1, NOT_FINITE = -2;

float largest_of(const float* values, int n) {
    float largest = -INFINITY;
    for (int i = 0; i < n; i++) largest = values[i] > largest ? values[i] : largest;
    return largest;
}

double sum_of_exponentials(const float* values, int n, float largest) {
    double sum = 0;
    int i = 0;
    for (; i + LANES <= n; i += LANES) sum += sum16(exp16(load16(values + i) - largest));
    for (; i < n; i++) sum += std::exp(double(values[i] - largest));
    return sum;
}

// The n likeliest, best first; of equals the lower id.
void choose_top(Draw& draw, int n_vocabulary, float largest, double log_sum) {
    std::vector<int32_t> order;
    const auto better = [&](int32_t a, int32_t b) {
        return draw.logits[a] > draw.logits[b] || (draw.logits[a] == draw.logits[b] && a < b);
    };
    const int n = std::min(draw.n_top, n_vocabulary);
    for (int32_t i = 0; i < n_vocabulary; i++) {
        if (int(order.size()) < n) {
            order.push_back(i);
            std::push_heap(order.begin(), order.end(), better);
        } else if (better(i, order.front())) {
            std::pop_heap(order.begin(), order.end(), better);
            order.back() = i;
            std::push_heap(order.begin(), order.end(), better);
        }
    }
    std::sort_heap(order.begin(), order.end(), better);
    for (int i = 0; i < n; i++) {
        draw.top_tokens[i] = order[i];
        draw.top_log_probs[i] = float(double(draw.logits[order[i]] - largest) - log_sum);
    }
}

bool may_come(const Draw& draw, int token) { return !draw.mask || (draw.mask[token / 32] >> (token % 32) & 1u); }

// The smallest set of likeliest tokens whose probabilities come to top_p, then one of them by its probability.
int draw_from(std::vector<std::pair<float, int32_t>>& weighted, double total, float top_p, double uniform) {
    double kept = total;
    size_t n = weighted.size();
    if (top_p < 1.0f) {
        const auto better = [](const auto& a, const auto& b) {
            return a.first > b.first || (a.first == b.first && a.second < b.second);
        };
        // Most of the mass is in few tokens: only those above a floor are sorted, unless they do not suffice.
        for (float floor : {UNLIKELY, -1.0f}) {
            const auto end = std::partition(weighted.begin(), weighted.end(), [&](const auto& w) { return w.first > floor; });
            std::sort(weighted.begin(), end, better);
            kept = 0;
            n = 0;
            while (n < size_t(end - weighted.begin()) && kept < double(top_p) * total) kept += weighted[n++].first;
            if (kept >= double(top_p) * total) break;
        }
        n = std::max<size_t>(n, 1);
    }
    double left = uniform * kept;
    for (size_t i = 0; i + 1 < n; i++) {
        left -= weighted[i].first;
        if (left < 0) return weighted[i].second;
    }
    return weighted[n - 1].second;
}

bool are_finite(const float* values, int n) {
    for (int i = 0; i < n; i++)
        if (!std::isfinite(values[i])) return false;
    return true;
}

void draw_token(Draw& draw, int n_vocabulary) {
    draw.token = NOTHING;
    if (!are_finite(draw.logits, n_vocabulary)) {
        draw.token = NOT_FINITE;
        return;
    }
    const float largest = largest_of(draw.logits, n_vocabulary);
    const bool needs_log_probs = draw.n_top >= 0;
    const double log_sum = needs_log_probs ? std::log(sum_of_exponentials(draw.logits, n_vocabulary, largest)) : 0;
    if (draw.n_top > 0) choose_top(draw, n_vocabulary, largest, log_sum);
    std::vector<float> changed;
    const float* logits = draw.logits;
    if (draw.n_biases || (draw.n_seen && (draw.frequency != 0 || draw.presence != 0))) {
        changed.assign(draw.logits, draw.logits + n_vocabulary);
        for (int i = 0; i < draw.n_biases; i++) changed[draw.bias_tokens[i]] += draw.bias_values[i];
        for (int i = 0; i < draw.n_seen; i++)
            changed[draw.seen_tokens[i]] -= draw.frequency * float(draw.seen_counts[i]) + draw.presence;
        logits = changed.data();
    }
    int best = -1;
    for (int i = 0; i < n_vocabulary; i++)
        if ((best < 0 || logits[i] > logits[best]) && may_come(draw, i)) best = i;
    draw.token = best;
    if (best >= 0 && draw.temperature > 0) {
        std::vector<std::pair<float, int32_t>> weighted;
        weighted.reserve(n_vocabulary);
        const float scale = 1.0f / draw.temperature, top = logits[best];
        double total = 0;
        for (int i = 0; i < n_vocabulary; i += LANES) {
            alignas(64) float block[LANES];
            const int n = std::min(LANES, n_vocabulary - i);
            for (int j = 0; j < LANES; j++) block[j] = j < n ? (logits[i + j] - top) * scale : -INFINITY;
            store16(block, exp16(load16(block)));
            for (int j = 0; j < n; j++)
                if (block[j] > 0 && may_come(draw, i + j)) {
                    weighted.emplace_back(block[j], i + j);
                    total += block[j];
                }
        }
        draw.token = draw_from(weighted, total, draw.top_p, draw.uniform);
    }
    if (needs_log_probs && draw.token >= 0) draw.log_prob = float(double(draw.logits[draw.token] - largest) - log_sum);
}

}  // namespace

// `token` is -1 where a mask lets none come, -2 where a logit is not finite; `n_top` is -1 where no log-probabilities are wanted.
extern "C" void decoder_draw(Decoder* decoder, int n_vocabulary, Draw* draws, int n) {
    decoder->pool().run(n, [&](int i) { draw_token(draws[i], n_vocabulary); });
}
