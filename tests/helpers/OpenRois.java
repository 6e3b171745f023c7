// Prints what ImageJ itself reads from an archive of regions: of each its name, slice and pixels, row by row.

import ij.gui.Roi;
import ij.io.RoiDecoder;
import ij.process.ImageProcessor;
import java.awt.Rectangle;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;

class OpenRois {
    public static void main(String[] arguments) throws Exception {
        try (ZipFile archive = new ZipFile(arguments[0])) {
            for (ZipEntry entry : java.util.Collections.list(archive.entries())) {
                byte[] bytes = archive.getInputStream(entry).readAllBytes();
                Roi region = new RoiDecoder(bytes, entry.getName()).getRoi();
                Rectangle bounds = region.getBounds();
                ImageProcessor mask = region.getMask(); // none of a rectangle, which is full
                StringBuilder pixels = new StringBuilder();
                for (int y = 0; y < bounds.height; y++)
                    for (int x = 0; x < bounds.width; x++)
                        if (mask == null || mask.get(x, y) != 0)
                            pixels.append(' ').append(bounds.x + x).append(',').append(bounds.y + y);
                System.out.println(region.getName() + "\t" + region.getPosition() + "\t" + pixels.toString().trim());
            }
        }
    }
}
