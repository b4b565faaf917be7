package dev.toolkit.trainer

import android.app.Notification
import android.app.NotificationManager
import android.content.Intent
import android.content.pm.ServiceInfo
import android.graphics.Rect
import android.net.Uri
import android.os.Bundle
import android.os.Parcel
import android.view.View
import android.widget.Button
import android.widget.EditText
import android.widget.ImageButton
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.service.ImportService
import dev.toolkit.trainer.service.ImportedModel
import dev.toolkit.trainer.service.Notifications
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.BundleImport
import dev.toolkit.trainer.store.SharedFiles
import dev.toolkit.trainer.ui.ImportActivity
import dev.toolkit.trainer.ui.MainActivity
import dev.toolkit.trainer.ui.TextActivity
import org.json.JSONObject
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowDialog
import org.robolectric.shadows.ShadowToast
import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.File
import java.util.concurrent.CountDownLatch
import java.util.zip.ZipEntry
import java.util.zip.ZipInputStream
import java.util.zip.ZipOutputStream

/** Models and texts that come from other apps, and adapters that go to them. */
@RunWith(RobolectricTestRunner::class)
class ImportTest {
    @get:Rule val temporary = TemporaryFolder()
    private lateinit var app: TrainerApp
    private val archive = File(Fixtures.folder, "words.zip").readBytes()
    private val imported get() = File(app.folders.own, "bundles")

    @Before
    fun deploy() {
        app = Fixtures.deploy(temporary, listOf("tiny"))
    }

    private fun send(uri: Uri, type: String = "application/zip") =
        Intent(Intent.ACTION_SEND).setType(type).putExtra(Intent.EXTRA_STREAM, uri)

    @Test
    fun `a model that another app shares is taken in, trains, and is deleted with its size said`() {
        val documents = Documents.register()
        val screen = Robolectric.buildActivity(ImportActivity::class.java, send(documents.add("1", "words.zip", archive))).setup()
        await("the question") { Pictures.text(screen.get(), "Import “words.zip” (") && Pictures.text(screen.get(), "are free") }
        screen.recreate()
        await("the same question") { Pictures.text(screen.get(), "Import “words.zip” (") }
        Fixtures.advance(1000)
        assertTrue("nothing before the user says so", !app.importing.errand.running && !File(imported, "words").exists())
        screen.get().requireViewById<View>(R.id.take).performClick()
        await("the model") { Pictures.text(screen.get(), "words is on this phone now") }
        assertTrue(screen.get().requireViewById<View>(R.id.train_on_text).isShown)
        screen.close()
        val original = File(Fixtures.folder, "bundles/words")
        for (file in original.walk().filter(File::isFile)) {
            assertArrayEquals(file.name, file.readBytes(), File(imported, "words/${file.relativeTo(original)}").readBytes())
        }
        val bundle = app.bundles.require("words")
        assertTrue(bundle.own)

        val first = Robolectric.buildActivity(MainActivity::class.java).setup()
        await("the list") { Pictures.text(first.get(), "tiny-words") }
        val delete = { view: View -> view is ImageButton && view.isShown && view.contentDescription == "Delete model tiny-words" }
        Pictures.views(first.get()).single(delete).performClick()
        await("the question") { ShadowDialog.getLatestDialog() != null }
        (ShadowDialog.getLatestDialog() as android.app.AlertDialog).getButton(android.app.AlertDialog.BUTTON_POSITIVE).performClick()
        await("the deletion") { !File(imported, "words").exists() }
        first.close()
    }

    private fun refused(words: String, bytes: ByteArray) {
        val error = assertThrows(AppException::class.java) { BundleImport(app.folders).read(ByteArrayInputStream(bytes)) }
        assertTrue("$error", words in error.message!!)
        assertEquals("nothing is left behind", emptyList<String>(), imported.list().orEmpty().toList())
    }

    private fun changed(change: (String, ByteArray) -> Pair<String, ByteArray>?): ByteArray {
        val out = ByteArrayOutputStream()
        ZipOutputStream(out).use { target ->
            ZipInputStream(archive.inputStream()).use { zip ->
                generateSequence { zip.nextEntry }.forEach { entry ->
                    val (name, bytes) = change(entry.name, zip.readBytes()) ?: return@forEach
                    target.putNextEntry(ZipEntry(name))
                    target.write(bytes)
                }
            }
        }
        return out.toByteArray()
    }

    @Test
    fun `what is damaged, incomplete or no model at all is refused and leaves nothing`() {
        refused("no zip of a model", "hello".toByteArray())
        refused("no zip of a model", changed { name, bytes -> if (name.endsWith("manifest.json")) null else name to bytes })
        refused("it is not what the model’s manifest says", changed { name, bytes ->
            name to if (name.endsWith("base.ptd")) bytes.clone().also { it[100] = (it[100] + 1).toByte() } else bytes
        })
        refused("it is not what the model’s manifest says", changed { name, bytes -> name to if (name.endsWith("base.ptd")) bytes + 0 else bytes })
        refused("ends before", changed { name, bytes -> if (name.endsWith("tokenizer.json")) null else name to bytes })
        refused("does not name", changed { name, bytes -> if (name.endsWith("base.ptd")) "words/../../x" to bytes else name to bytes })
        refused("cannot name a model", changed { name, bytes -> name.replace("words/", "..words/") to bytes })
        refused("format version 99", changed { name, bytes ->
            name to if (name.endsWith("manifest.json")) String(bytes).replace(Regex("\"format_version\": \\d+"), "\"format_version\": 99").toByteArray() else bytes
        })
        refused("no zip of a model", archive.copyOf(10))
        refused("it is damaged", archive.copyOf(archive.size / 2))
    }

    private fun withManifest(change: (JSONObject) -> Unit) = changed { name, bytes ->
        name to if (name.endsWith("manifest.json")) JSONObject(String(bytes)).also(change).toString().toByteArray() else bytes
    }

    @Test
    fun `a manifest that lies is refused and ends nothing`() {
        val first = { it: JSONObject -> it.getJSONObject("files").run { getJSONObject(keys().next()) } }
        refused("manifest cannot be read", withManifest { first(it).remove("sha256") })
        refused("manifest cannot be read", withManifest { first(it).put("sha256", "0") })
        refused("manifest cannot be read", withManifest { first(it).put("bytes", -1) })
        refused("manifest cannot be read", withManifest { it.put("files", 3) })
        refused("names a file outside of it", changed { name, bytes ->
            if (!name.endsWith("manifest.json")) name.replace("words/base.ptd", "words/../../x") to bytes
            else name to String(bytes).replace("\"base.ptd\"", "\"../../x\"").toByteArray()
        })
        val deep = changed { name, bytes -> name to if (name.endsWith("manifest.json")) ("{\"a\":" + "[".repeat(1_000_000)).toByteArray() else bytes }
        val told = ArrayList<ImportedModel>()
        app.importing.errand.attach { told += it }
        app.importing.begin(Documents.register().add("1", "deep.zip", deep))
        await("the refusal") { told.size == 1 }
        assertTrue(told[0].problem!!, "manifest cannot be read" in told[0].problem!!)
        assertTrue(imported.list().orEmpty().isEmpty())
    }

    @Test
    fun `an import leaves storage free, and what is on the phone where it is`() {
        imported.mkdirs()
        val most = imported.usableSpace - 100_000_000
        refused("with some to spare", withManifest { manifest ->
            manifest.getJSONObject("files").run { getJSONObject(keys().next()).put("bytes", most) }
        })
        File(Fixtures.folder, "bundles/words").copyRecursively(File(Fixtures.deployed(), "bundles/words"))
        refused("on this phone already", archive)
    }

    @Test
    fun `what a killed import or data set left is cleared away at the next start`() {
        val left = listOf(File(imported, "words.part/a"), File(app.folders.data, "mine.part/a"), File(app.cacheDir, "trial/a"))
        val kept = listOf(File(imported, "whole/a"), File(app.folders.data, "mine/a"))
        for (file in left + kept) file.also { it.parentFile!!.mkdirs() }.writeText("x")
        // The clock of files is a little behind the other.
        val young = File(imported, "other.part").also { it.mkdirs() && it.setLastModified(System.currentTimeMillis() + 1000) }
        for (file in left) assertTrue(file.parentFile!!.setLastModified(System.currentTimeMillis() - 10_000))
        app.onCreate()
        Fixtures.settle(app)
        assertTrue(left.none { it.parentFile!!.exists() })
        assertTrue("what this process makes stays", young.exists() && kept.all { it.exists() })
    }

    @Test
    fun `an import goes on without its screen and says how it ended`() {
        val document = Documents.register().add("1", "words.zip", archive)
        val screen = Robolectric.buildActivity(ImportActivity::class.java, send(document)).setup()
        await("the question") { Pictures.text(screen.get(), "Import “words.zip”") }
        val begun = CountDownLatch(1)
        app.importing.addListener { begun.await() }
        screen.get().requireViewById<View>(R.id.take).performClick()
        val service = Robolectric.buildService(ImportService::class.java, shadowOf(app).nextStartedService).create().startCommand(0, 1)
        assertEquals(ServiceInfo.FOREGROUND_SERVICE_TYPE_DATA_SYNC, service.get().foregroundServiceType)
        val notifications = shadowOf(app.getSystemService(NotificationManager::class.java))
        val ongoing = notifications.getNotification(Notifications.IMPORT_ID)
        assertEquals("Cancel", ongoing.actions.single().title.toString())
        screen.pause().stop().destroy()
        begun.countDown()
        await("the end") { shadowOf(service.get()).isStoppedBySelf }
        assertEquals("words", app.bundles.require("words").name)
        assertEquals("words is on this phone now.", notifications.getNotification(4).extras.getCharSequence(Notification.EXTRA_TITLE).toString())
        service.destroy()
    }

    @Test
    fun `a model that is shared while another one is taken in is asked about after it`() {
        val documents = Documents.register()
        val screen = Robolectric.buildActivity(ImportActivity::class.java, send(documents.add("1", "words.zip", archive))).setup()
        await("the question") { Pictures.text(screen.get(), "Import “words.zip”") }
        val begun = CountDownLatch(1)
        app.importing.addListener { begun.await() }
        screen.get().requireViewById<View>(R.id.take).performClick()
        screen.newIntent(send(documents.add("2", "more.zip", archive)))
        Fixtures.advance(1000)
        assertTrue("the first one is not over", app.importing.errand.running)
        screen.recreate()
        begun.countDown()
        await("the next question") { Pictures.text(screen.get(), "Import “more.zip”") }
        assertTrue(app.bundles.require("words").own)
        assertEquals("words is on this phone now", ShadowToast.getTextOfLatestToast().trimEnd('.'))
        assertTrue(screen.get().requireViewById<View>(R.id.take).isShown)
        screen.close()
    }

    @Test
    fun `a failed import is said beside the question about the next one, until that is answered`() {
        val documents = Documents.register()
        val screen = Robolectric.buildActivity(ImportActivity::class.java, send(documents.add("1", "bad.zip", archive.copyOf(archive.size / 2)))).setup()
        await("the question") { Pictures.text(screen.get(), "Import “bad.zip”") }
        val begun = CountDownLatch(1)
        app.importing.addListener { begun.await() }
        screen.get().requireViewById<View>(R.id.take).performClick()
        screen.newIntent(send(documents.add("2", "more.zip", archive)))
        begun.countDown()
        await("the next question") { Pictures.text(screen.get(), "Import “more.zip”") }
        Fixtures.advance(60_000)
        val problem = screen.get().requireViewById<android.widget.TextView>(R.id.problem)
        assertTrue(problem.text.toString(), problem.isShown && problem.text.startsWith("The model before was not imported: "))
        screen.get().requireViewById<View>(R.id.take).performClick()
        assertFalse("it was about the one before", problem.isShown)
        await("the model") { Pictures.text(screen.get(), "is on this phone now") }
        assertFalse(problem.isShown)
        screen.close()
    }

    /** What a screen has said of itself when it was no longer looked at is all that a process leaves behind. */
    @Test
    fun `what was shared outlives the process`() {
        BundleImport(app.folders).read(archive.inputStream())
        val documents = Documents.register()
        val diary = documents.add("1", "diary.txt", "hello there, how are you? ".toByteArray())
        val text = Intent(Intent.ACTION_SEND_MULTIPLE).setType("text/plain").putParcelableArrayListExtra(Intent.EXTRA_STREAM, arrayListOf(diary))
        for ((screen, intent, words) in listOf(
            Triple(TextActivity::class.java, text, "diary.txt"),
            Triple(ImportActivity::class.java, send(documents.add("2", "more.zip", archive)), "Import “more.zip”"),
        )) {
            val before = Robolectric.buildActivity(screen, intent).setup()
            await(words) { Pictures.text(before.get(), words) }
            val left = Bundle()
            before.pause().saveInstanceState(left).stop()
            val parcel = Parcel.obtain().apply { writeBundle(left) }
            parcel.setDataPosition(0)
            before.destroy()
            val after = Robolectric.buildActivity(screen, intent).setup(parcel.readBundle(javaClass.classLoader))
            await(words) { Pictures.text(after.get(), words) }
            if (screen == TextActivity::class.java) {
                val make = after.get().requireViewById<Button>(R.id.make)
                await("the model") { after.get().requireViewById<android.widget.Spinner>(R.id.bundle).count == 1 && make.isEnabled }
                make.performClick()
                await("the data") { app.data.list().any { it.own } }
            } else {
                assertTrue(after.get().requireViewById<View>(R.id.take).isShown)
            }
            after.close()
        }
    }

    @Test
    fun `extras that are no addresses are nothing`() {
        for (screen in listOf(ImportActivity::class.java, TextActivity::class.java)) {
            for (intent in listOf(
                Intent(Intent.ACTION_SEND).putExtra(Intent.EXTRA_STREAM, Rect()),
                Intent(Intent.ACTION_SEND).putExtra(Intent.EXTRA_STREAM, "words"),
                Intent(Intent.ACTION_SEND_MULTIPLE).putParcelableArrayListExtra(Intent.EXTRA_STREAM, arrayListOf(Rect())),
                Intent(Intent.ACTION_SEND_MULTIPLE).putExtra(Intent.EXTRA_STREAM, 7),
            )) {
                val controller = Robolectric.buildActivity(screen, intent).setup()
                Fixtures.advance(100)
                assertTrue("it is open", !controller.get().isFinishing && !app.importing.errand.running)
                controller.close()
            }
        }
    }

    @Test
    fun `an import can be cancelled, and a second model of one name is refused`() {
        lateinit var reader: BundleImport
        reader = BundleImport(app.folders) { reader.cancel() }
        val error = assertThrows(AppException::class.java) { reader.read(archive.inputStream()) }
        assertTrue("cancelled" in error.message!!)
        File(imported, "old.part").mkdirs()
        assertEquals("words", BundleImport(app.folders).read(archive.inputStream()))
        assertEquals("what a kill left is cleared away", listOf("words"), imported.list()!!.toList())
        assertTrue("already" in assertThrows(AppException::class.java) { BundleImport(app.folders).read(archive.inputStream()) }.message!!)
    }

    @Test
    fun `text and files that another app shares`() {
        BundleImport(app.folders).read(archive.inputStream())
        val documents = Documents.register()
        val file = documents.add("1", "diary.txt", "hello there, how are you? ".toByteArray())
        val several = Intent(Intent.ACTION_SEND_MULTIPLE).setType("text/plain")
            .putParcelableArrayListExtra(Intent.EXTRA_STREAM, arrayListOf(file, Uri.fromFile(app.folders.own)))
        val screen = Robolectric.buildActivity(TextActivity::class.java, several).setup()
        await("the file") { Pictures.text(screen.get(), "diary.txt") }
        assertEquals("only what providers give", 1, screen.get().requireViewById<android.view.ViewGroup>(R.id.files).childCount)
        screen.newIntent(Intent(Intent.ACTION_SEND).setType("text/plain").putExtra(Intent.EXTRA_TEXT, "shared words"))
        assertEquals("shared words", screen.get().requireViewById<EditText>(R.id.text).text.toString())
        await("the model") { screen.get().requireViewById<android.widget.Spinner>(R.id.bundle).count == 1 }
        screen.get().requireViewById<Button>(R.id.make).performClick()
        await("the data") { app.data.find("my-text") != null && screen.get().isFinishing }
    }

    @Test
    fun `an adapter is shared without the trace, and only what was shared can be read`() {
        val run = Fixtures.create(app, "a")
        assertNull(SharedFiles.adapter(app, run))
        app.controller.start("a")
        assertTrue(app.controller.join(60_000))
        val intent = SharedFiles.adapter(app, app.runs.require("a"))!!
        @Suppress("DEPRECATION")
        val uri = intent.getParcelableExtra<Uri>(Intent.EXTRA_STREAM)!!
        assertTrue(intent.flags and Intent.FLAG_GRANT_READ_URI_PERMISSION != 0)
        val provider = Robolectric.buildContentProvider(SharedFiles::class.java).create("dev.toolkit.trainer.shared").get()
        val entries = LinkedHashMap<String, ByteArray>()
        ZipInputStream(android.os.ParcelFileDescriptor.AutoCloseInputStream(provider.openFile(uri, "r"))).use { zip ->
            generateSequence { zip.nextEntry }.forEach { entries[it.name] = zip.readBytes() }
        }
        assertEquals(setOf("a/adapter_model.safetensors", "a/adapter_config.json"), entries.keys)
        assertArrayEquals(Fixtures.referenceAdapter(), entries["a/adapter_model.safetensors"])
        for (path in listOf("../../files/runs/a/run.json", "b.zip", "")) {
            val other = Uri.Builder().scheme("content").authority("dev.toolkit.trainer.shared").appendPath(path).build()
            assertThrows(java.io.FileNotFoundException::class.java) { provider.openFile(other, "r") }
        }
        assertThrows(java.io.FileNotFoundException::class.java) { provider.openFile(uri, "rw") }
        assertEquals(File(app.cacheDir, "shared").listFiles()!!.single().name, uri.lastPathSegment)
        assertTrue(shadowOf(app).nextStartedActivity == null)
    }
}
