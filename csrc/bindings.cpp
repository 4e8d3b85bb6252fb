// bindings.cpp -- the extension fastconv._cuda, a line an entry point. The only file that includes pybind11.
#include <pybind11/pybind11.h>

#include "device/runtime.h"

namespace py = pybind11;
namespace runtime = fastconv::runtime;

PYBIND11_MODULE(_cuda, m) {
  using NoGil = py::call_guard<py::gil_scoped_release>;

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
