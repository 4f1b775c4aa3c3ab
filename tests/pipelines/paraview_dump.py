"""Run by `pvpython`: open files with ParaView's own readers and save what it made of them, without any code of ours.

`pvpython paraview_dump.py FILE.npz MESH…` writes `version`, and for the mesh of number N and its time of number T
`N/T/points`, `types`, `offsets`, `connectivity`, `faces` (cell, number of faces, then for each face its size and
corners), `cell/NAME`, `point/NAME` and `time`.
"""

import sys

import numpy as np
from paraview import servermanager
from paraview.simple import GetParaViewSourceVersion, OpenDataFile, UpdatePipeline
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkIdList

POLYHEDRON = 42


def describe(data):
    """Give every number of a data set."""
    if data.IsA("vtkMultiBlockDataSet") or data.IsA("vtkPartitionedDataSetCollection"):
        raise SystemExit("expected one mesh, but ParaView made several of it")
    held = {"points": vtk_to_numpy(data.GetPoints().GetData())}
    cells = range(data.GetNumberOfCells())
    held["types"] = np.array([data.GetCellType(cell) for cell in cells], np.uint8)
    ids, corners, ends, faces = vtkIdList(), [], [0], []
    for cell in cells:
        data.GetCellPoints(cell, ids)
        corners += [ids.GetId(number) for number in range(ids.GetNumberOfIds())]
        ends.append(len(corners))
        if held["types"][cell] == POLYHEDRON:
            data.GetFaceStream(cell, ids)
            faces += [cell, *(ids.GetId(number) for number in range(ids.GetNumberOfIds()))]
    held["connectivity"], held["offsets"] = np.array(corners), np.array(ends)
    held["faces"] = np.array(faces, np.int64)
    for place, attributes in (("cell", data.GetCellData()), ("point", data.GetPointData())):
        for number in range(attributes.GetNumberOfArrays()):
            array = attributes.GetArray(number)
            held[f"{place}/{array.GetName()}"] = vtk_to_numpy(array)
    return held


target, *paths = sys.argv[1:]
saved = {"version": np.array(str(GetParaViewSourceVersion()))}
for number, path in enumerate(paths):
    source = OpenDataFile(path)
    times = getattr(source, "TimestepValues", None)
    times = [float(time) for time in times] if hasattr(times, "__len__") and len(times) else [0.0]
    for index, time in enumerate(times):
        UpdatePipeline(time=time, proxy=source)
        described = describe(servermanager.Fetch(source)) | {"time": np.array(time)}
        saved |= {f"{number}/{index}/{name}": value for name, value in described.items()}
np.savez(target, **saved)
