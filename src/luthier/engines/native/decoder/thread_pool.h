// Threads that share the chunks of a loop. Whoever is free takes the next chunk, and the caller takes part, so that a
// thread which the system has put aside for another program delays nothing but the chunk that it has begun.

#pragma once

#include <atomic>
#include <climits>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include <sched.h>

class ThreadPool {
  public:
    explicit ThreadPool(int n_threads) {
        for (int i = 1; i < n_threads; i++) threads_.emplace_back([this] { work(); });
    }

    ~ThreadPool() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            ends_ = true;
        }
        wake_.notify_all();
        for (auto& thread : threads_) thread.join();
    }

    int size() const { return int(threads_.size()) + 1; }

    // Calls chunk(i) for each i below n_chunks, in any order, and returns when all calls have returned.
    template <typename Chunk>
    void run(int n_chunks, const Chunk& chunk) {
        if (n_chunks <= 0) return;
        if (n_chunks == 1 || threads_.empty()) {
            for (int i = 0; i < n_chunks; i++) chunk(i);
            return;
        }
        generation_ = (generation_ + 1) & GENERATIONS;
        Job& job = jobs_[generation_ & 1];
        job.call = [](const void* f, int i) { (*static_cast<const Chunk*>(f))(i); };
        job.chunk = &chunk;
        job.done.store(0, std::memory_order_relaxed);
        next_.store(uint64_t(generation_) << 40 | uint64_t(n_chunks) << 20);
        if (sleeping_.load() > 0) {
            { std::lock_guard<std::mutex> lock(mutex_); }
            wake_.notify_all();
        }
        while (take_chunk()) {
        }
        for (int spins = 0; job.done.load(std::memory_order_acquire) < n_chunks; spins++) {
            pause();
            if (spins > YIELD_AFTER) sched_yield();
        }
    }

  private:
    struct Job {
        void (*call)(const void*, int) = nullptr;
        const void* chunk = nullptr;
        std::atomic<int> done{0};
    };

    static constexpr uint32_t GENERATIONS = (1u << 24) - 1;
    static constexpr uint64_t MASK = (1u << 20) - 1;
    static constexpr int YIELD_AFTER = 2000;
    // About a tenth of a millisecond: longer than the pauses within a step, and no time at all between steps.
    static constexpr int SPINS = 3000;

    // One word holds the generation of the job, how many chunks it has and the next one: whoever takes a chunk from it
    // knows which job it belongs to, and that job cannot end, nor its place be reused, before the chunk is done.
    bool take_chunk() {
        uint64_t word = next_.load();
        for (;;) {
            uint64_t n_chunks = (word >> 20) & MASK, index = word & MASK;
            if (index >= n_chunks) return false;
            if (next_.compare_exchange_weak(word, word + 1)) {
                Job& job = jobs_[(word >> 40) & 1];
                job.call(job.chunk, int(index));
                job.done.fetch_add(1, std::memory_order_release);
                return true;
            }
        }
    }

    bool has_chunk() const {
        uint64_t word = next_.load();
        return (word & MASK) < ((word >> 20) & MASK);
    }

    void work() {
        for (;;) {
            for (int spins = 0; spins < SPINS; spins++) {
                if (take_chunk()) spins = 0;
                pause();
            }
            std::unique_lock<std::mutex> lock(mutex_);
            sleeping_++;
            wake_.wait(lock, [this] { return ends_ || has_chunk(); });
            sleeping_--;
            if (ends_) return;
        }
    }

    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }

    std::vector<std::thread> threads_;
    std::atomic<uint64_t> next_{0};
    Job jobs_[2];
    uint32_t generation_ = 0;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<int> sleeping_{0};
    bool ends_ = false;
};
