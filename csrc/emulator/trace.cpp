// emu_trace.cpp - a replacement runtime for the calls that `g++ -fsanitize=thread` puts before every memory access of the
// kernels. libtsan is NOT linked. It sees each load and store with address, size, call site and CUDA thread, and does
//  1. bounds: every access must lie in a registered buffer, a shared-memory object, constants, or the thread's own stack
//  2. initialisation: shadow flag per granule, for shared memory and for output buffers
//  3. races: happens-before by block epoch + vector clocks (barriers, __syncwarp, mbarriers); between blocks of a launch too
//  4. alignment; 5. performance facts: lanes grouped into warp requests -> 32-byte sectors, bank conflicts
#include "trace.h"
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <unistd.h>
#include <cstdarg>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>
#include <unordered_set>

namespace emu {
extern uint8_t* stacks; extern size_t stacks_size;
bool perf_on = false, check_on = true;
struct Stamp { uint32_t epoch, clk; uint16_t tid; uint8_t atomic; uint32_t pc; };
struct Cell { Stamp w, r1, r2; uint8_t init; };
struct Region { uintptr_t lo, hi; std::string name; int granule; std::unique_ptr<Cell[]> cells; };
static std::map<uintptr_t, Region> buffers;                   // by start address
static std::map<uintptr_t, Region> shobjs;
static uint32_t epoch = 1, launch_first = 1, block_first = 1;
static uint32_t vc[1024][1024]; static uint32_t row_epoch[1024];
struct MbVc { uint32_t epoch_acc, epoch_done; std::vector<uint32_t> acc, done; };
static std::map<uint32_t, MbVc> mbvc;
static std::vector<std::string> reports; static std::set<std::string> seen;
static uintptr_t main_lo, main_hi;
// The module that this is linked into, an executable or a shared object: where it lies and what file it came from.
struct Module { uintptr_t lo = 0, hi = 0; std::string path; };
static const Module& module() {
  static const Module found = [] {
    Module m; Dl_info info; if (!dladdr((void*)&module, &info)) abort();
    m.lo = (uintptr_t)info.dli_fbase; m.path = info.dli_fname;
    dl_iterate_phdr([](dl_phdr_info* i, size_t, void* arg) {
      Module& m = *(Module*)arg; uintptr_t hi = 0; bool here = false;
      for (int k = 0; k < i->dlpi_phnum; k++) if (i->dlpi_phdr[k].p_type == PT_LOAD) {
        uintptr_t lo = i->dlpi_addr + i->dlpi_phdr[k].p_vaddr, end = lo + i->dlpi_phdr[k].p_memsz; here = here || (m.lo >= lo && m.lo < end); hi = std::max(hi, end);
      }
      if (here) m.hi = hi;
      return int(here);
    }, &m);
    return m;
  }();
  return found;
}

static std::string symbol(uintptr_t pc) {                     // file:line of a call site
  static std::map<uintptr_t, std::string> cache; auto it = cache.find(pc); if (it != cache.end()) return it->second;
  char cmd[4096], line[1024]; std::string s = "?";               // -i: innermost frame first; skip the primitives' headers
  snprintf(cmd, sizeof cmd, "addr2line -i -e '%s' %#lx", module().path.c_str(), (unsigned long)(pc - 1 - module().lo));
  if (FILE* f = popen(cmd, "r")) {
    bool first = true;
    while (fgets(line, sizeof line, f)) {
      std::string c = line; while (!c.empty() && c.back() == '\n') c.pop_back(); if (auto d = c.find(" ("); d != c.npos) c.resize(d);
      if (auto d = c.rfind('/'); d != c.npos) c = c.substr(d + 1);
      bool prim = c.rfind("launch.h", 0) == 0 || c.rfind("vector.h", 0) == 0 || c.rfind("numeric.h", 0) == 0 || c.rfind("emulator.h", 0) == 0;
      if (first || !prim) s = c;
      first = false; if (!prim) break;
    }
    pclose(f);
  }
  return cache[pc] = s;
}
static std::string symbol32(uint32_t off) { return off ? symbol(module().lo + off) : "async copy"; }
static uint32_t pc32(const void* pc) { return pc ? uint32_t((uintptr_t)pc - module().lo) : 0; }
static void report(const char* kind, const std::string& key, const char* fmt, ...) {
  if (!seen.insert(kind + key).second || reports.size() >= 20) return;
  char b[1024]; va_list ap; va_start(ap, fmt); vsnprintf(b, sizeof b, fmt, ap); va_end(ap); reports.push_back(std::string(kind) + ": " + b);
}
static uint32_t* row(int t) { if (row_epoch[t] != epoch) { memset(vc[t], 0, sizeof(uint32_t) * G.nthreads); vc[t][t] = 1; row_epoch[t] = epoch; } return vc[t]; }

// ---- perf log ----------------------------------------------------------------------------------------------------
struct Entry { uint32_t pc; uint32_t size_kind; uintptr_t addr; };
static std::vector<Entry> plog[1024];
struct Agg { uint64_t requests, lanes, sectors, min_sectors, phases, wavefronts; };
static std::map<std::pair<uint32_t, uint32_t>, Agg> agg;      // (pc, size|kind<<8|shared<<16)
static std::unordered_set<uintptr_t> uniq_ld, uniq_st; static uint64_t ldm_ph, ldm_wf;
static int wavefronts(const uintptr_t* a, int n, int size) {  // distinct 4-byte words per bank, worst bank
  std::vector<uintptr_t> words[32]; int worst = 0;
  for (int i = 0; i < n; i++) for (int b = 0; b < std::max(size, 4); b += 4) { uintptr_t w = (a[i] + b) / 4; auto& v = words[w % 32]; if (std::find(v.begin(), v.end(), w) == v.end()) v.push_back(w); worst = std::max(worst, int(v.size())); }
  return worst;
}
static void perf_flush_block() {
  for (int w = 0; w * 32 < G.nthreads; w++) {
    struct Req { int n = 0; uint8_t lane[32]; uintptr_t a[32]; uint32_t sk; };
    std::unordered_map<uint64_t, Req> reqs;
    for (int l = 0; l < 32 && w * 32 + l < G.nthreads; l++) {
      std::unordered_map<uint32_t, uint32_t> occ;
      for (const Entry& e : plog[w * 32 + l]) { Req& r = reqs[uint64_t(e.pc) << 32 | occ[e.pc]++]; r.sk = e.size_kind; if (r.n < 32) { r.lane[r.n] = uint8_t(l); r.a[r.n++] = e.addr; } }
      plog[w * 32 + l].clear();
    }
    for (auto& [k, r] : reqs) {
      Agg& g = agg[{uint32_t(k >> 32), r.sk}]; int size = r.sk & 255; bool shared = r.sk >> 16 & 1, write = r.sk >> 8 & 3; g.requests++; g.lanes += r.n;
      if (shared) {
        int per = size >= 16 ? 8 : size >= 8 ? 16 : 32; uintptr_t ph[32];
        for (int p = 0; p < 32 / per; p++) { int n = 0; for (int i = 0; i < r.n; i++) if (r.lane[i] / per == p) ph[n++] = r.a[i]; if (n) { g.phases++; g.wavefronts += wavefronts(ph, n, size); } }
      } else {
        std::set<uintptr_t> sec; std::set<uintptr_t> bytes;
        for (int i = 0; i < r.n; i++) for (int b = 0; b < size; b++) { sec.insert((r.a[i] + b) / 32); bytes.insert(r.a[i] + b); }
        g.sectors += sec.size(); g.min_sectors += (bytes.size() + 31) / 32; auto& u = write ? uniq_st : uniq_ld; for (auto s : sec) u.insert(s);
      }
    }
  }
}
void trace_matrix_request(const void* const* rows, int n, const void*) {
  if (!perf_on) return;
  uintptr_t a[8]; for (int i = 0; i < n; i++) a[i] = (uintptr_t)rows[i]; ldm_ph++; ldm_wf += wavefronts(a, n, 16);
}

// ---- checks ------------------------------------------------------------------------------------------------------
static void conflict(const char* kind, const Region& r, uintptr_t a, const Stamp& s, const void* pc, bool other_block) {
  if (seen.count(kind + r.name + std::to_string(pc32(pc)) + "/" + std::to_string(s.pc))) return;
  report(kind, r.name + std::to_string(pc32(pc)) + "/" + std::to_string(s.pc), "%s+%zu: thread %d at %s against %sthread %d at %s, not ordered by any barrier",
         r.name.c_str(), size_t(a - r.lo), G.cur->id, symbol32(pc32(pc)).c_str(), other_block ? "ANOTHER BLOCK's " : "", s.tid, symbol32(s.pc).c_str());
}
static bool ordered(const Stamp& s, bool shared, bool& other_block) {
  other_block = false;
  if (s.epoch < launch_first) return true;
  if (s.epoch < block_first) { other_block = true; return shared; }
  if (s.epoch < epoch || s.tid == G.cur->id) return true;
  return row(G.cur->id)[s.tid] >= s.clk;
}
static void check_access(Region& r, bool shared, uintptr_t a, size_t n, int kind, const void* pc) {
  int tid = G.cur->id; uint32_t clk = row(tid)[tid]; bool ob;
  size_t c0 = (a - r.lo) / r.granule, c1 = (a + n - 1 - r.lo) / r.granule;
  Stamp now{epoch, clk, uint16_t(tid), uint8_t((kind & AK_ATOMIC) != 0), pc32(pc)};
  bool write = kind & (AK_WRITE | AK_ATOMIC), read = !(kind & AK_WRITE);
  for (size_t c = c0; c <= c1; c++) {
    Cell& x = r.cells[c];
    if (kind == 8) { x.init = 0; continue; }
    if (read && !x.init) { report("UNINITIALISED READ", r.name + std::to_string(now.pc), "%s+%zu (%zu bytes) by thread %d at %s", r.name.c_str(), c * r.granule, n, tid, symbol32(now.pc).c_str()); x.init = 1; }
    bool aa = now.atomic && x.w.atomic;
    if (!aa && !ordered(x.w, shared, ob)) conflict(write ? "RACE write/write" : "RACE read/write", r, a, x.w, pc, ob);
    if (write) {
      if (!(now.atomic && x.r1.atomic) && !ordered(x.r1, shared, ob)) conflict("RACE write/read", r, a, x.r1, pc, ob);
      else if (!(now.atomic && x.r2.atomic) && !ordered(x.r2, shared, ob)) conflict("RACE write/read", r, a, x.r2, pc, ob);
      x.w = now; x.init = 1;
    }
    if (read && !now.atomic) { if (x.r1.tid != tid || x.r1.epoch < block_first) x.r2 = x.r1; x.r1 = now; }
  }
}
static Region* find(std::map<uintptr_t, Region>& m, uintptr_t a) { auto it = m.upper_bound(a); if (it == m.begin()) return nullptr; --it; return a < it->second.hi ? &it->second : nullptr; }
static std::string nearest(std::map<uintptr_t, Region>& m, uintptr_t a) {
  auto it = m.upper_bound(a); char b[256];
  if (it != m.begin()) { auto p = std::prev(it); snprintf(b, sizeof b, "%zu bytes past the end of %s (%zu bytes)", size_t(a - p->second.hi), p->second.name.c_str(), size_t(p->second.hi - p->second.lo)); return b; }
  if (it != m.end()) { snprintf(b, sizeof b, "%zu bytes before %s", size_t(it->second.lo - a), it->second.name.c_str()); return b; }
  return "no buffer registered";
}
void trace_access(const void* p, size_t n, int kind, const void* pc) {
  if (!G.running) return;
  uintptr_t a = (uintptr_t)p;
  if (a - (uintptr_t)stacks < stacks_size || a - (uintptr_t)&G < sizeof G) return;
  bool shared = a - (uintptr_t)arena < ARENA_SIZE;
  Region* r = find(shared ? shobjs : buffers, a);
  if (!r || a + n > r->hi) {
    if (!shared && !r && !(kind & (AK_WRITE | AK_ATOMIC)) && ((a >= module().lo && a < module().hi) || (a >= main_lo && a < main_hi))) return;   // constants, launch arguments
    fail("%s OUT OF BOUNDS %s of %zu bytes at %s: %s", shared ? "SHARED" : "GLOBAL", kind & (AK_WRITE | AK_ATOMIC) ? "write" : "read", n, symbol32(pc32(pc)).c_str(), r ? "straddles the end of the object" : nearest(shared ? shobjs : buffers, a).c_str());
  }
  if (n <= 16 && (n & (n - 1)) == 0 && a % n && kind != 8) fail("MISALIGNED %zu-byte access at %s (%s+%zu)", n, symbol32(pc32(pc)).c_str(), r->name.c_str(), size_t(a - r->lo));
  if (check_on) check_access(*r, shared, a, n, kind & 11, pc);
  if (perf_on && !(kind & (AK_QUIET | 8))) plog[G.cur->id].push_back({pc32(pc), uint32_t(n) | uint32_t(kind & 3) << 8 | uint32_t(shared) << 16, a});
}
void trace_launch_begin() {
  epoch++; launch_first = epoch; reports.clear(); seen.clear(); agg.clear(); uniq_ld.clear(); uniq_st.clear(); ldm_ph = ldm_wf = 0; for (auto& l : plog) l.clear();
  thread_local uintptr_t lo, hi;   // whichever thread launches, its stack holds the arguments
  if (!hi) { pthread_attr_t at; void* b; size_t sz; pthread_getattr_np(pthread_self(), &at); pthread_attr_getstack(&at, &b, &sz); lo = (uintptr_t)b; hi = lo + sz; pthread_attr_destroy(&at); }
  main_lo = lo; main_hi = hi;
}
void trace_launch_end() {
  if (reports.empty()) return;
  std::string s; for (size_t i = 0; i < reports.size() && i < 6; i++) s += (i ? "\n      " : "") + reports[i]; if (reports.size() > 6) s += "\n      ... " + std::to_string(reports.size() - 6) + " more";
  throw Error(s);
}
void trace_block_begin() { epoch++; block_first = epoch; mbvc.clear(); }
void trace_block_end() { if (perf_on) perf_flush_block(); if (!reports.empty()) trace_launch_end(); }
void trace_block_barrier() { epoch++; }
void trace_shared_object(const void* p, size_t n, const char* name) {
  uintptr_t a = (uintptr_t)p; int g = 2;
  auto it = shobjs.lower_bound(a); while (it != shobjs.end() && it->first < a + n) it = shobjs.erase(it);        // replaces whatever an earlier block had here
  if (it != shobjs.begin()) { auto q = std::prev(it); if (q->second.hi > a) shobjs.erase(q); }
  Region r{a, a + n, std::string("shared ") + name, g, std::make_unique<Cell[]>(n / g + 1)}; memset((void*)r.cells.get(), 0, sizeof(Cell) * (n / g + 1)); shobjs[a] = std::move(r);
}
void trace_join(const int* ids, int n) {                      // all of them now know what each of them knew
  static uint32_t m[1024]; memset(m, 0, sizeof(uint32_t) * G.nthreads);
  for (int i = 0; i < n; i++) { uint32_t* v = row(ids[i]); for (int k = 0; k < G.nthreads; k++) m[k] = std::max(m[k], v[k]); }
  for (int i = 0; i < n; i++) { memcpy(vc[ids[i]], m, sizeof(uint32_t) * G.nthreads); vc[ids[i]][ids[i]]++; }
}
void trace_release(uint32_t bar, bool complete) {
  MbVc& b = mbvc[bar];
  if (complete) { b.done = b.acc; b.epoch_done = b.epoch_acc; return; }
  if (b.epoch_acc != epoch) { b.acc.assign(G.nthreads, 0); b.epoch_acc = epoch; }
  uint32_t* v = row(G.cur->id); for (int k = 0; k < G.nthreads; k++) b.acc[k] = std::max(b.acc[k], v[k]); v[G.cur->id]++;
}
void trace_acquire(uint32_t bar) {
  MbVc& b = mbvc[bar]; if (b.epoch_done != epoch || b.done.empty()) return;
  uint32_t* v = row(G.cur->id); for (int k = 0; k < G.nthreads; k++) v[k] = std::max(v[k], b.done[k]);
}
void trace_buffer(const void* p, size_t n, const char* name, bool initialised) {
  uintptr_t a = (uintptr_t)p; int g = 2; Region r{a, a + n, name, g, std::make_unique<Cell[]>(n / g + 1)}; memset((void*)r.cells.get(), 0, sizeof(Cell) * (n / g + 1));
  buffers[a] = std::move(r); if (initialised) trace_buffer_written(p, n);
}
void trace_buffer_gone(const void* p) { buffers.erase((uintptr_t)p); }
void trace_buffer_written(const void* p, size_t n) { Region* r = find(buffers, (uintptr_t)p); if (r) for (size_t c = ((uintptr_t)p - r->lo) / r->granule; c <= ((uintptr_t)p + n - 1 - r->lo) / r->granule; c++) r->cells[c].init = 1; }

Perf perf_collect() {
  Perf p{}; std::map<std::string, PerfSite> by;
  for (auto& [k, g] : agg) {
    auto [pc, sk] = k; bool shared = sk >> 16 & 1, write = sk >> 8 & 1, atomic = sk >> 8 & 2; int size = sk & 255; std::string w = symbol32(pc);
    PerfSite& s = by[w + (shared ? "s" : "g") + (write ? "w" : "r") + std::to_string(size)]; s.where = w; s.shared = shared; s.write = write; s.atomic = atomic; s.size = size;
    s.requests += g.requests; s.lanes += g.lanes; s.sectors += g.sectors; s.min_sectors += g.min_sectors; s.phases += g.phases; s.wavefronts += g.wavefronts;
    if (shared) { p.sh_phases += g.phases; p.sh_wavefronts += g.wavefronts; } else if (write || atomic) { p.gst_sectors += g.sectors; p.gst_min += g.min_sectors; } else { p.gld_sectors += g.sectors; p.gld_min += g.min_sectors; }
  }
  for (auto& [k, s] : by) p.sites.push_back(s);
  p.unique_ld_sectors = uniq_ld.size(); p.unique_st_sectors = uniq_st.size(); p.ldm_phases = ldm_ph; p.ldm_wavefronts = ldm_wf; return p;
}
void perf_print(const Perf& p, FILE* f) {
  fprintf(f, "  %-28s %-13s %9s %6s | %9s %9s | %9s %9s\n", "source line", "access", "requests", "lanes", "sectors", "minimum", "wavefr.", "ideal");
  for (auto& s : p.sites) {
    char acc[32]; snprintf(acc, sizeof acc, "%s %s %d", s.shared ? "shared" : "global", s.atomic ? "atom" : s.write ? "st" : "ld", s.size * 8);
    fprintf(f, "  %-28s %-13s %9llu %6.1f | %9llu %9llu | %9llu %9llu\n", s.where.c_str(), acc, (unsigned long long)s.requests, double(s.lanes) / double(s.requests), (unsigned long long)s.sectors, (unsigned long long)s.min_sectors, (unsigned long long)s.wavefronts, (unsigned long long)s.phases);
  }
  fprintf(f, "  TOTAL global load sectors %llu (per-request minimum %llu; distinct %llu), store sectors %llu (min %llu); shared wavefronts %llu (conflict-free %llu); ldmatrix wavefronts %llu (ideal %llu)\n",
          (unsigned long long)p.gld_sectors, (unsigned long long)p.gld_min, (unsigned long long)p.unique_ld_sectors, (unsigned long long)p.gst_sectors, (unsigned long long)p.gst_min, (unsigned long long)p.sh_wavefronts, (unsigned long long)p.sh_phases, (unsigned long long)p.ldm_wavefronts, (unsigned long long)p.ldm_phases);
}
}  // namespace emu

// ---- what -fsanitize=thread calls -----------------------------------------------------------------------------------
#define RA __builtin_return_address(0)
#define RW(n) \
  void __tsan_read##n(void* p) { emu::trace_access(p, n, emu::AK_READ, RA); } \
  void __tsan_write##n(void* p) { emu::trace_access(p, n, emu::AK_WRITE, RA); } \
  void __tsan_unaligned_read##n(void* p) { emu::trace_access(p, n, emu::AK_READ, RA); } \
  void __tsan_unaligned_write##n(void* p) { emu::trace_access(p, n, emu::AK_WRITE, RA); } \
  void __tsan_volatile_read##n(void* p) { emu::trace_access(p, n, emu::AK_READ, RA); } \
  void __tsan_volatile_write##n(void* p) { emu::trace_access(p, n, emu::AK_WRITE, RA); }
extern "C" {
RW(1) RW(2) RW(4) RW(8) RW(16)
void __tsan_read_range(void* p, size_t n) { emu::trace_access(p, n, emu::AK_READ, RA); }
void __tsan_write_range(void* p, size_t n) { emu::trace_access(p, n, emu::AK_WRITE, RA); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void*, void*) {}
void __tsan_vptr_read(void*) {}
}
