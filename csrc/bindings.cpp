// bindings.cpp -- the extensions fastconv._cuda and fastconv._emulated, a line an entry point. The only file
// that includes pybind11. Both are made of the same sources: nvcc compiles the kernels of the first, g++
// those of the second, which adds the controls of the emulator.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "activation.h"
#include "conv/conv.h"
#include "conv/depthwise.h"
#include "device/error.h"
#include "device/primitives.h"
#include "grid/grid.h"
#include "layout/layout.h"
#include "loss/loss.h"
#include "matmul/matmul.h"
#include "nms/nms.h"
#include "norm/norm.h"
#include "pool/pool.h"
#include "resize/resize.h"
#include "roi/roi.h"
#include "window.h"
#ifdef FASTCONV_EMULATED
#include "emulator/control.h"
#include "emulator/counters.h"
#include "emulator/planted/planted.h"
#else
#include "device/runtime.h"
#endif

namespace py = pybind11;
namespace fc = fastconv;

using NoGil = py::call_guard<py::gil_scoped_release>;

namespace {

fc::Window make_window(int64_t batch, int32_t channels, int32_t filters, int32_t groups,
                       std::array<int32_t, 3> size, std::array<int32_t, 3> kernel,
                       std::array<int32_t, 3> stride, std::array<int32_t, 3> dilation,
                       std::array<int32_t, 3> padding, std::array<int32_t, 3> output) {
  const auto axes = [](const std::array<int32_t, 3>& v) { return fc::Axes{{v[0], v[1], v[2]}}; };
  return {batch,        channels,     filters,        groups,        axes(size),
          axes(kernel), axes(stride), axes(dilation), axes(padding), axes(output)};
}

fc::Pooling make_pooling(int64_t planes, int32_t lanes, const std::array<std::array<int32_t, 7>, 3>& axes) {
  const auto axis = [](const std::array<int32_t, 7>& v) {
    return fc::PoolAxis{v[0], v[1], v[2], v[3], v[4], v[5], v[6]};
  };
  return {planes, lanes, {axis(axes[0]), axis(axes[1]), axis(axes[2])}};
}

fc::PoolTile make_pool_tile(int32_t planes, std::array<int32_t, 3> axis, int32_t lanes,
                            std::array<int32_t, 3> box) {
  return {planes, {axis[0], axis[1], axis[2]}, lanes, {box[0], box[1], box[2]}};
}

void bind_primitives(py::module_& m) {
  m.def("primitives", &fc::primitives);
  m.def("run_primitive", &fc::run_primitive, NoGil(), py::arg("name"), py::arg("inputs"), py::arg("output"),
        py::arg("stream"));
}

#ifdef FASTCONV_EMULATED
void bind_machine(py::module_& m) {
  namespace emulator = fc::emulator;
  m.def("set_schedule", &emulator::set_schedule, py::arg("order"), py::arg("async_mode"), py::arg("seed"),
        py::arg("reverse_blocks"));
  m.def("only_block", &emulator::only_block, py::arg("block"));
  m.def("register_buffer", &emulator::register_buffer, py::arg("address"), py::arg("bytes"), py::arg("name"),
        py::arg("initialised"));
  m.def("forget_buffer", &emulator::forget_buffer, py::arg("address"));
  m.def("build_kind", &emulator::build_kind);
  py::class_<emulator::AccessSite>(m, "AccessSite", py::module_local())
      .def_readonly("where", &emulator::AccessSite::where)
      .def_readonly("memory", &emulator::AccessSite::memory)
      .def_readonly("access", &emulator::AccessSite::access)
      .def_readonly("bytes", &emulator::AccessSite::bytes)
      .def_readonly("requests", &emulator::AccessSite::requests)
      .def_readonly("lanes", &emulator::AccessSite::lanes)
      .def_readonly("sectors", &emulator::AccessSite::sectors)
      .def_readonly("sectors_minimum", &emulator::AccessSite::sectors_minimum)
      .def_readonly("wavefronts", &emulator::AccessSite::wavefronts)
      .def_readonly("wavefronts_minimum", &emulator::AccessSite::wavefronts_minimum)
      .def_readonly("words", &emulator::AccessSite::words);
  py::class_<emulator::LaunchCounters>(m, "LaunchCounters", py::module_local())
      .def_readonly("kernel", &emulator::LaunchCounters::kernel)
      .def_readonly("grid", &emulator::LaunchCounters::grid)
      .def_readonly("block", &emulator::LaunchCounters::block)
      .def_readonly("counts", &emulator::LaunchCounters::counts)
      .def_readonly("sites", &emulator::LaunchCounters::sites);
  m.def("set_counting", &emulator::set_counting, py::arg("on"));
  m.def("reset_counters", &emulator::reset_counters);
  m.def("counters", &emulator::counters);
  m.def("planted_bugs", &fc::planted::planted_bugs);
  m.def("run_planted", &fc::planted::run_planted, NoGil(), py::arg("kernel"), py::arg("bug"),
        py::arg("correct"), py::arg("inputs"), py::arg("output"));
}
#else
void bind_machine(py::module_& m) {
  namespace runtime = fc::runtime;
  py::class_<runtime::Number>(m, "Number")
      .def_readonly("status", &runtime::Number::status)
      .def_readonly("value", &runtime::Number::value);
  py::class_<runtime::Device>(m, "Device")
      .def_readonly("status", &runtime::Device::status)
      .def_readonly("name", &runtime::Device::name)
      .def_readonly("major", &runtime::Device::major)
      .def_readonly("minor", &runtime::Device::minor);
  m.def("device_count", &runtime::device_count, NoGil());
  m.def("runtime_version", &runtime::runtime_version, NoGil());
  m.def("driver_version", &runtime::driver_version, NoGil());
  m.def("device", &runtime::device, NoGil(), py::arg("index"));
  m.def("probe", &runtime::probe, NoGil(), py::arg("index"));
  m.def("status_text", &runtime::status_text, NoGil(), py::arg("status"));
}
#endif

void bind_conv_depthwise(py::module_& m) {
  m.def("depthwise_forward", &fc::depthwise_forward, NoGil());
  m.def("depthwise_input_grad", &fc::depthwise_input_grad, NoGil());
  m.def("depthwise_weight_grad_splits", &fc::depthwise_weight_grad_splits);
  m.def("depthwise_weight_grad", &fc::depthwise_weight_grad, NoGil());
}

void bind_conv(py::module_& m) {
  m.def("conv_forward_implicit_gemm", &fc::conv_forward_implicit_gemm, NoGil());
  m.def("conv_input_grad_implicit_gemm", &fc::conv_input_grad_implicit_gemm, NoGil());
  m.def("conv_weight_grad_implicit_gemm", &fc::conv_weight_grad_implicit_gemm, NoGil());
  m.def("conv_bias_grad", &fc::conv_bias_grad, NoGil());
}

void bind_roi(py::module_& m) {
  py::class_<fc::Roi>(m, "Roi", py::module_local())
      .def(py::init([](int64_t images, int64_t regions, int64_t planes, int64_t lanes,
                       std::array<int32_t, 3> size, std::array<int32_t, 3> output, int32_t missing) {
        return fc::Roi{
            images, regions, planes, lanes, {size[0], size[1], size[2]}, {output[0], output[1], output[2]},
            missing};
      }));
  m.def("roi_align_forward", &fc::roi_align_forward, NoGil());
  m.def("roi_align_input_grad", &fc::roi_align_input_grad, NoGil());
  m.def("roi_pool_forward", &fc::roi_pool_forward, NoGil());
  m.def("roi_pool_input_grad", &fc::roi_pool_input_grad, NoGil());
}

void bind_nms(py::module_& m) {
  m.def("nms_mask", &fc::nms_mask, NoGil());
  m.def("nms_select", &fc::nms_select, NoGil());
}

void bind_norm(py::module_& m) {
  py::class_<fc::NormShape>(m, "NormShape", py::module_local())
      .def(py::init<int64_t, int64_t, int64_t, int64_t, bool>());
  m.def("norm_statistics", &fc::norm_statistics, NoGil());
  m.def("norm_forward", &fc::norm_forward, NoGil());
  m.def("norm_weight_grad", &fc::norm_weight_grad, NoGil());
  m.def("norm_group_sums", &fc::norm_group_sums, NoGil());
  m.def("norm_input_grad", &fc::norm_input_grad, NoGil());
  m.def("norm_forward_rows", &fc::norm_forward_rows, NoGil());
  m.def("norm_input_grad_rows", &fc::norm_input_grad_rows, NoGil());
  m.def("norm_rms_forward", &fc::norm_rms_forward, NoGil());
}

void bind_layout(py::module_& m) { m.def("layout_copy", &fc::layout_copy, NoGil()); }

void bind_pool(py::module_& m) {
  py::class_<fc::Pooling>(m, "Pooling", py::module_local()).def(py::init(&make_pooling));
  py::class_<fc::PoolTile>(m, "PoolTile", py::module_local()).def(py::init(&make_pool_tile));
  py::class_<fc::PoolSplit>(m, "PoolSplit", py::module_local()).def(py::init<int32_t, int32_t, int32_t>());
  py::class_<fc::PoolIndexed>(m, "PoolIndexed", py::module_local())
      .def(py::init<int64_t, int64_t, int64_t, int32_t>());
  py::class_<fc::Averaging>(m, "Averaging", py::module_local()).def(py::init<bool, double>());
  m.def("max_pool_forward_tile", &fc::max_pool_forward_tile, NoGil());
  m.def("avg_pool_forward_tile", &fc::avg_pool_forward_tile, NoGil());
  m.def("max_pool_forward_split", &fc::max_pool_forward_split, NoGil());
  m.def("avg_pool_forward_split", &fc::avg_pool_forward_split, NoGil());
  m.def("max_pool_input_grad_tile", &fc::max_pool_input_grad_tile, NoGil());
  m.def("avg_pool_input_grad_tile", &fc::avg_pool_input_grad_tile, NoGil());
  m.def("max_pool_input_grad_direct", &fc::max_pool_input_grad_direct, NoGil());
  m.def("avg_pool_input_grad_direct", &fc::avg_pool_input_grad_direct, NoGil());
  m.def("pool_gather", &fc::pool_gather, NoGil());
  m.def("pool_scatter", &fc::pool_scatter, NoGil());
  m.def("pool_place", &fc::pool_place, NoGil());
}

void bind_loss(py::module_& m) {
  m.def("cross_entropy_weight_sum", &fc::cross_entropy_weight_sum, NoGil());
  m.def("cross_entropy_forward", &fc::cross_entropy_forward, NoGil());
  m.def("cross_entropy_grad", &fc::cross_entropy_grad, NoGil());
}

void bind_resize(py::module_& m) {
  py::class_<fc::ResizeAxis>(m, "ResizeAxis", py::module_local())
      .def(py::init(
          [](int32_t size, int32_t output, double scale, float shift, float offset, float rise,
             int32_t taps) { return fc::ResizeAxis{size, output, scale, shift, offset, rise, taps}; }));
  m.def("resize_forward", &fc::resize_forward, NoGil());
  m.def("resize_input_grad", &fc::resize_input_grad, NoGil());
  m.def("resize_taps", &fc::resize_taps, NoGil());
}

void bind_grid(py::module_& m) {
  py::enum_<fc::GridMode>(m, "GridMode", py::module_local())
      .value("nearest", fc::GridMode::kNearest)
      .value("bilinear", fc::GridMode::kBilinear)
      .value("bicubic", fc::GridMode::kBicubic);
  py::enum_<fc::GridPadding>(m, "GridPadding", py::module_local())
      .value("zeros", fc::GridPadding::kZeros)
      .value("border", fc::GridPadding::kBorder)
      .value("reflection", fc::GridPadding::kReflection);
  py::class_<fc::GridSampling>(m, "GridSampling", py::module_local())
      .def(py::init([](int64_t batch, int64_t channels, int64_t points, std::array<int32_t, 3> size,
                       std::array<int32_t, 3> order, int32_t axes, fc::GridMode mode, fc::GridPadding padding,
                       bool aligned, bool last) {
        const auto axis = [&](int i) { return fc::GridAxis{size[i], order[i]}; };
        return fc::GridSampling{batch,   channels, points, {axis(0), axis(1), axis(2)}, axes, mode,
                                padding, aligned,  last};
      }));
  m.def("grid_sample_forward", &fc::grid_sample_forward, NoGil());
  m.def("grid_sample_reads", &fc::grid_sample_reads, NoGil());
  m.def("grid_sample_input_grad", &fc::grid_sample_input_grad, NoGil());
  m.def("grid_sample_grid_grad", &fc::grid_sample_grid_grad, NoGil());
}

void bind_matmul(py::module_& m) { m.def("matmul_tiled", &fc::matmul_tiled, NoGil()); }

}  // namespace

// Types and exceptions are local to their module: a process may load several of the extensions.
PYBIND11_MODULE(FASTCONV_MODULE, m) {
  py::register_local_exception<fc::LaunchError>(m, "LaunchError", PyExc_RuntimeError);
  py::register_local_exception<fc::DispatchError>(m, "DispatchError", PyExc_RuntimeError);
  py::class_<fc::Window>(m, "Window", py::module_local()).def(py::init(&make_window));
  py::enum_<fc::Format>(m, "Format", py::module_local())
      .value("channels_first", fc::Format::kChannelsFirst)
      .value("channels_last", fc::Format::kChannelsLast);
  py::enum_<fc::Dtype>(m, "Dtype", py::module_local())
      .value("float16", fc::Dtype::kFloat16)
      .value("bfloat16", fc::Dtype::kBfloat16)
      .value("float32", fc::Dtype::kFloat32)
      .value("float64", fc::Dtype::kFloat64);
  py::enum_<fc::Activation>(m, "Activation", py::module_local())
      .value("none", fc::Activation::kNone)
      .value("relu", fc::Activation::kRelu)
      .value("gelu", fc::Activation::kGelu)
      .value("silu", fc::Activation::kSilu);
  bind_machine(m);
  bind_primitives(m);
  bind_conv(m);
  bind_layout(m);
  bind_conv_depthwise(m);
  bind_pool(m);
  bind_loss(m);
  bind_resize(m);
  bind_grid(m);
  bind_matmul(m);
  bind_nms(m);
  bind_roi(m);
  bind_norm(m);
}
